//! What is under way between nodes, in its smallest form: whatever no receiver reads is left out.

use understudy::replica::{Ack, Ballot, Envelope, LogPos, Message, Refusal};
use understudy::units::{Epoch, Lsn, Micros, Millis};

/// Where every clock stands, for good.
pub const NOW: Micros = Micros(1 << 50);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    Say(Box<Envelope>),
    Ack { stream: u64, ack: Ack },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Msg {
    pub from: usize,
    pub to: usize,
    pub body: Body,
}

impl Msg {
    /// The message as it goes under way. A heartbeat's answer goes as two, the promise and the
    /// knowledge of a rule, so that either can be late without the other.
    pub fn say(to: usize, mut envelope: Box<Envelope>) -> Vec<Msg> {
        let from = envelope.from.0 as usize - 1;
        if plain(&mut envelope.message).is_none() {
            return Vec::new();
        }
        let body = Body::Say(envelope);
        let whole = Msg { from, to, body };
        if !whole.is_promise() {
            return vec![whole];
        }
        let knowledge = whole.without_lease();
        let mut promise = whole;
        if let Body::Say(envelope) = &mut promise.body
            && let Message::BeatAnswer(answer) = &mut envelope.message
        {
            answer.rule = None;
        }
        vec![promise, knowledge]
    }

    /// Promises a lease.
    pub fn is_promise(&self) -> bool {
        matches!(self.message(), Some(Message::BeatAnswer(answer)) if answer.lease)
    }

    pub fn is_vote(&self) -> bool {
        matches!(self.message(), Some(Message::Vote { .. }))
    }

    pub fn message(&self) -> Option<&Message> {
        match &self.body {
            Body::Say(envelope) => Some(&envelope.message),
            Body::Ack { .. } => None,
        }
    }

    pub fn is_question(&self) -> bool {
        matches!(self.message(), Some(Message::PreVote { .. }))
    }

    pub fn is_reply_to_question(&self) -> bool {
        matches!(self.message(), Some(Message::PreVoteAnswer { .. }))
    }

    /// The disk that it came from.
    pub fn incarnation(&self) -> u64 {
        match &self.body {
            Body::Say(envelope) => envelope.incarnation,
            Body::Ack { .. } => 0,
        }
    }

    /// The same heartbeat, not telling how far is released; or its answer, not telling which rule is
    /// recorded.
    pub fn without_content(&self) -> Msg {
        let mut plain = self.clone();
        if let Body::Say(envelope) = &mut plain.body {
            match &mut envelope.message {
                Message::Beat(beat) => beat.released = Lsn::ZERO,
                Message::BeatAnswer(answer) => answer.rule = None,
                _ => {}
            }
        }
        plain
    }

    /// The same answer once the credit it could bring has ended.
    pub fn without_lease(&self) -> Msg {
        let mut stale = self.clone();
        if let Body::Say(envelope) = &mut stale.body
            && let Message::BeatAnswer(answer) = &mut envelope.message
        {
            answer.lease = false;
        }
        stale
    }
}

fn plain(message: &mut Message) -> Option<()> {
    match message {
        // Nobody but a blank node listens, and never are all nodes blank here.
        Message::Blank => return None,
        Message::Beat(beat) => {
            (beat.appended, beat.synced, beat.wall) = (Lsn::ZERO, Lsn::ZERO, Millis(0));
            // Only readers on a standby go by it.
            beat.serves = false;
        }
        Message::BeatAnswer(answer) => {
            answer.log = LogPos::default();
            (answer.synced, answer.applied) = (Lsn::ZERO, Lsn::ZERO);
            answer.sent_at = NOW;
            if answer.promised > answer.epoch {
                // It ends the reign, whatever else it says.
                (answer.lease, answer.rule) = (false, None);
            }
        }
        Message::PreVoteAnswer {
            refused, ballot, ..
        } => plain_ballot(refused, ballot),
        Message::VoteAnswer {
            refused, ballot, ..
        } => {
            plain_ballot(refused, ballot);
            ballot.promised = Epoch::ZERO;
        }
        _ => {}
    }
    Some(())
}

/// Which reason a voter gives is for a person only.
fn plain_ballot(refused: &mut Option<Refusal>, ballot: &mut Ballot) {
    *refused = refused.map(|_| Refusal::NotCounted);
    (ballot.log, ballot.seen) = (LogPos::default(), None);
}
