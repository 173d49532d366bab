//! Requests in, replies out.

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use understudy::command::Command;
use understudy::resp::{Limits, Reply, RequestParser, Version, encode_request};

/// Pipelined SETs of 16-byte keys and 100-byte values.
fn pipeline(requests: usize) -> BytesMut {
    let mut out = BytesMut::new();
    for index in 0..requests {
        let key = format!("key:{index:012}");
        encode_request(&[b"SET", key.as_bytes(), &[b'v'; 100]], &mut out);
    }
    out
}

fn resp(c: &mut Criterion) {
    let mut group = c.benchmark_group("resp");
    let stream = pipeline(100);
    group.throughput(Throughput::Elements(100));
    group.bench_function("parse 100 SET requests", |b| {
        b.iter(|| {
            let mut parser = RequestParser::new(Limits::default());
            let mut buf = stream.clone();
            let mut parsed = 0;
            while let Ok(Some(request)) = parser.parse(&mut buf) {
                parsed += usize::from(Command::parse(&request).is_ok());
            }
            assert_eq!(parsed, 100);
        });
    });
    let reply = Reply::bulk(&[b'v'; 100]);
    group.bench_function("encode 100 bulk replies", |b| {
        let mut out = BytesMut::with_capacity(100 * 128);
        b.iter(|| {
            out.clear();
            (0..100).for_each(|_| reply.encode(Version::Resp2, &mut out));
        });
    });
    group.finish();
}

criterion_group!(benches, resp);
criterion_main!(benches);
