//! A question to a client port, this node's own or another's, and the answer.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::resp::{Reply, ReplyLimits, ReplyParser, encode_request};

/// Asks one thing and waits for its answer; `buffer` keeps what came behind it. The caller bounds the time.
pub(super) async fn ask(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    words: &[&[u8]],
) -> std::io::Result<Reply> {
    let mut request = BytesMut::new();
    encode_request(words, &mut request);
    stream.write_all(&request).await?;
    let mut parser = ReplyParser::new(ReplyLimits::default());
    loop {
        match parser.parse(buffer) {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error.to_string())),
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
