//! What a client sends becomes commands.

use bytes::BytesMut;

use super::{Asked, Mistake, Session, Weight};
use crate::command::{Command, KeyCommand, NoRow, find_spec, row_of};
use crate::keyspace::is_reserved;
use crate::resp::{Reply, Request, RequestParser};

/// Commands read ahead of execution: a turn. Between two of them others are served.
const MAX_TODO: usize = 512;

const ARGUMENT_BYTES: usize = 32;

/// Of a request and of an argument, besides its own bytes.
const REQUEST_BYTES: usize = 128;

const RESERVED: Reply =
    Reply::error("ERR keys that begin with \\xff\\xffunderstudy: are the server's own");

/// Whether a key is one of those that a node keeps for itself.
fn names_reserved(request: &Request, command: &KeyCommand) -> bool {
    // Next to no argument begins so, which is known without a look at each.
    let may_be = request.args.iter().any(|arg| arg.first() == Some(&0xff));
    may_be && command.keys().any(is_reserved)
}

impl Session<'_> {
    pub(super) fn parse(&mut self, parser: &mut RequestParser, buffer: &mut BytesMut) {
        self.unparsed = false;
        if self.is_behind_barrier() {
            self.unparsed = true;
            return;
        }
        parser.set_unauthenticated(self.access.is_stranger());
        let mut last = None;
        while !self.closing {
            if self.todo.len() >= MAX_TODO {
                self.unparsed = true;
                break;
            }
            match parser.parse(buffer) {
                Ok(Some(request)) => {
                    let args = request.args.iter();
                    let bytes: usize = args.map(|arg| arg.len() + ARGUMENT_BYTES).sum();
                    self.asked_bytes += bytes + REQUEST_BYTES;
                    let asked = match self.admit(&request) {
                        Ok(()) => self.understand(&request),
                        Err(Mistake { reply, weight }) => mistaken(&request, reply, weight),
                    };
                    last = asked.spec.or(last);
                    let barrier = self.is_barrier(&asked.what);
                    self.todo.push_back(asked);
                    if barrier {
                        self.unparsed = true;
                        break;
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    let mistake = Mistake {
                        reply: Reply::Error(broken.to_string().into()),
                        weight: Weight::Aborts,
                    };
                    self.todo.push_back(Asked {
                        spec: None,
                        what: Err(mistake),
                    });
                    self.closing = true;
                }
            }
        }
        if let Some(spec) = last {
            self.client.asks(spec.name);
        }
    }

    fn understand(&self, request: &Request) -> Asked {
        let (found, command) = match find_spec(request) {
            Ok(spec) => {
                let (row, command) = (spec.named_by(request), spec.parse(request));
                if command.is_ok() && self.server.monitors.are_there() {
                    let now = self.server.node.host.wall();
                    let from = self.client.from;
                    self.server.monitors.show(row, request, from, now);
                }
                (Some(row), command)
            }
            Err(reply) => (None, Command::unknown(request, reply)),
        };
        let allowed = command.and_then(|command| match command {
            Command::Keys(keys) if names_reserved(request, &keys) => Err(RESERVED),
            command => Ok(command),
        });
        match allowed {
            Ok(command) => Asked {
                spec: found,
                what: Ok(command),
            },
            Err(reply) => mistaken(request, reply, Weight::of(request)),
        }
    }
}

fn mistaken(request: &Request, reply: Reply, weight: Weight) -> Asked {
    let spec = match row_of(&request.args) {
        Ok(row) | Err(NoRow::Arity(row)) => Some(row),
        Err(NoRow::Unknown) => None,
    };
    let what = Err(Mistake { reply, weight });
    Asked { spec, what }
}
