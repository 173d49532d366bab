//! One operation as its client saw it, and the sequential specification: what a single node that
//! never fails would answer.

/// The value of a key, or `None` where it is missing.
pub type State = Option<Vec<u8>>;

/// What a client asked. All on one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// GET.
    Get,
    /// SET with this value.
    Set(Vec<u8>),
    /// GETSET with this value.
    GetSet(Vec<u8>),
    /// INCR.
    Incr,
    /// APPEND of this.
    Append(Vec<u8>),
    /// DEL.
    Del,
    /// Compare and set: `SET key value IFEQ old`.
    SetIfEqual {
        /// What must be there.
        old: Vec<u8>,
        /// What to put there.
        value: Vec<u8>,
    },
}

impl Call {
    /// Whether it can change anything.
    pub fn is_write(&self) -> bool {
        *self != Call::Get
    }

    /// The command's words, the key among them.
    pub fn words(&self, key: &str) -> Vec<Vec<u8>> {
        let key = key.as_bytes().to_vec();
        match self {
            Call::Get => vec![b"GET".to_vec(), key],
            Call::Set(value) => vec![b"SET".to_vec(), key, value.clone()],
            Call::GetSet(value) => vec![b"GETSET".to_vec(), key, value.clone()],
            Call::Incr => vec![b"INCR".to_vec(), key],
            Call::Append(more) => vec![b"APPEND".to_vec(), key, more.clone()],
            Call::Del => vec![b"DEL".to_vec(), key],
            Call::SetIfEqual { old, value } => {
                let (set, if_equal) = (b"SET".to_vec(), b"IFEQ".to_vec());
                vec![set, key, value.clone(), if_equal, old.clone()]
            }
        }
    }
}

/// What a client was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The value, or nil: GET, GETSET.
    Value(State),
    /// OK: SET.
    Done,
    /// A number: INCR's value, APPEND's length in bytes, DEL's count.
    Integer(i64),
    /// Whether compare-and-set stored: OK or nil.
    Stored(bool),
    /// INCR on what is no number, or beyond the greatest one.
    NotAnInteger,
}

/// What a client knows about an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took effect between its begin and this tick, with this answer.
    Ok(Answer, u64),
    /// It surely had no effect: refused before anything was executed.
    Failed,
    /// It may take effect at any time after its begin, or never: no answer, or -UNCONFIRMED.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// Who asked. Only for a reader: the order within one client follows from the ticks.
    pub client: u32,
    /// On which key.
    pub key: String,
    /// What was asked.
    pub call: Call,
    /// The tick before it was sent.
    pub begin: u64,
    /// How it ended. An operation that ended at a tick lies before those that begin at a *later*
    /// one; at equal ticks they count as concurrent.
    pub outcome: Outcome,
}

impl Operation {
    /// The tick at which its answer came, if one came.
    pub fn end(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Ok(_, end) => Some(*end),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// Whether it was answered with this.
    pub fn outcome_is(&self, wanted: &Answer) -> bool {
        matches!(&self.outcome, Outcome::Ok(answer, _) if answer == wanted)
    }
}

/// A number as Redis takes it: decimal digits of 64 bits with a sign, and no other spelling.
pub fn integer(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The sequential specification: the state after the call, and its answer.
pub fn apply(state: &State, call: &Call) -> (State, Answer) {
    match call {
        Call::Get => (state.clone(), Answer::Value(state.clone())),
        Call::Set(value) => (Some(value.clone()), Answer::Done),
        Call::GetSet(value) => (Some(value.clone()), Answer::Value(state.clone())),
        Call::Incr => {
            let old = state.as_deref().map_or(Some(0), integer);
            match old.and_then(|old| old.checked_add(1)) {
                Some(new) => (Some(new.to_string().into_bytes()), Answer::Integer(new)),
                None => (state.clone(), Answer::NotAnInteger),
            }
        }
        Call::Append(more) => {
            let mut value = state.clone().unwrap_or_default();
            value.extend_from_slice(more);
            let length = Answer::Integer(value.len() as i64);
            (Some(value), length)
        }
        Call::Del => (None, Answer::Integer(i64::from(state.is_some()))),
        Call::SetIfEqual { old, value } => match state.as_ref() == Some(old) {
            true => (Some(value.clone()), Answer::Stored(true)),
            false => (state.clone(), Answer::Stored(false)),
        },
    }
}
