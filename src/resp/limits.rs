//! How much one client may make this process hold.

/// Bounds on what a [`RequestParser`](super::RequestParser) accepts. The defaults are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most arguments of one request, its command name included.
    pub max_args: usize,
    /// Longest single argument, in bytes (Redis: `proto-max-bulk-len`).
    pub max_bulk_bytes: usize,
    /// Longest inline command or length line, in bytes.
    pub max_inline_bytes: usize,
    /// Most bytes of all arguments of one request together (Redis: `client-query-buffer-limit`).
    pub max_request_bytes: usize,
    /// The client has not said who it is: Redis's narrower bounds hold, too.
    pub unauthenticated: bool,
}

/// Most bytes of one reply, and of the replies of one transaction.
pub const MOST_REPLY_BYTES: usize = 1 << 30;

impl Limits {
    /// Most arguments of one request while unauthenticated.
    pub(super) const STRANGER_ARGS: usize = 10;
    /// Longest single argument, in bytes, while unauthenticated.
    pub(super) const STRANGER_BULK_BYTES: usize = 16_384;

    /// For a client that has yet to authenticate.
    pub fn for_strangers() -> Limits {
        Limits {
            unauthenticated: true,
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_args: 1024 * 1024,
            max_bulk_bytes: 512 * 1024 * 1024,
            max_inline_bytes: 64 * 1024,
            max_request_bytes: 1024 * 1024 * 1024,
            unauthenticated: false,
        }
    }
}
