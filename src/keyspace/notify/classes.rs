//! Which keyspace events are told: `notify-keyspace-events`.

/// Letters of classes, and whether `A` includes them, in the order in which Redis says them.
const LETTERS: [(u8, bool); 11] = [
    (b'g', true),
    (b'$', true),
    (b'l', true),
    (b's', true),
    (b'h', true),
    (b'z', true),
    (b'x', true),
    (b'e', true),
    (b't', true),
    (b'd', true),
    (b'n', false),
];

/// Those that Redis says behind them.
const LAST: [u8; 3] = [b'K', b'E', b'm'];

/// A set of classes of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClasses(u16);

/// What an event is about, or the channel that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventClass {
    /// `g`: any type of value.
    Generic,
    /// `$`: strings.
    Strings,
    /// `x`: a key expired.
    Expired,
    /// `e`: a key was evicted.
    Evicted,
    /// `n`: a key was made.
    New,
    /// `m`: a key that was looked for is not there.
    KeyMiss,
    /// `K`: `__keyspace@0__:key` tells events.
    Keyspace,
    /// `E`: `__keyevent@0__:event` tells keys.
    KeyEvent,
}

impl EventClass {
    fn letter(self) -> u8 {
        match self {
            EventClass::Generic => b'g',
            EventClass::Strings => b'$',
            EventClass::Expired => b'x',
            EventClass::Evicted => b'e',
            EventClass::New => b'n',
            EventClass::KeyMiss => b'm',
            EventClass::Keyspace => b'K',
            EventClass::KeyEvent => b'E',
        }
    }
}

fn bit(letter: u8) -> Option<u16> {
    let known = LETTERS.iter().map(|(letter, _)| *letter).chain(LAST);
    let place = known.into_iter().position(|known| known == letter)?;
    Some(1 << place)
}

fn all() -> u16 {
    let of_all = LETTERS.iter().filter(|(_, of_all)| *of_all);
    of_all.filter_map(|(letter, _)| bit(*letter)).sum()
}

impl EventClasses {
    /// Reads the letters; `None` where one is unknown.
    pub fn parse(text: &str) -> Option<EventClasses> {
        let bits = text.bytes().map(|letter| match letter {
            b'A' => Some(all()),
            letter => bit(letter),
        });
        let mut bits = bits;
        let together = bits.try_fold(0, |sum, bits| Some(sum | bits?));
        together.map(EventClasses)
    }

    /// For keeping as a number.
    pub fn bits(self) -> i64 {
        i64::from(self.0)
    }

    /// Of that number.
    pub fn of_bits(bits: i64) -> EventClasses {
        EventClasses(bits as u16)
    }

    /// Whether this class is among them.
    pub fn has(self, class: EventClass) -> bool {
        bit(class.letter()).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Whether anything is told at all: a class without a channel says nothing.
    pub fn tells(self) -> bool {
        self.has(EventClass::Keyspace) || self.has(EventClass::KeyEvent)
    }
}

/// As CONFIG GET of Redis says it: where `A` stands, `n` is not said.
impl std::fmt::Display for EventClasses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has = |letter: u8| bit(letter).is_some_and(|bit| self.0 & bit != 0);
        let mut say = |letter: u8| std::fmt::Write::write_char(f, char::from(letter));
        if self.0 & all() == all() {
            say(b'A')?;
        } else {
            let said = LETTERS.iter().map(|(letter, _)| *letter);
            said.filter(|letter| has(*letter)).try_for_each(&mut say)?;
        }
        LAST.into_iter()
            .filter(|letter| has(*letter))
            .try_for_each(say)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_said_as_redis_says_them() {
        for (set, said) in [
            ("", ""),
            ("KEA", "AKE"),
            ("K$mEx", "$xKEm"),
            ("nEA", "AE"),
            ("Kn$", "$nK"),
            ("tdzhslgnemxKE", "glshzxetdnKEm"),
        ] {
            let classes = EventClasses::parse(set).map(|classes| classes.to_string());
            assert_eq!(classes.as_deref(), Some(said));
        }
        assert_eq!(EventClasses::parse("Kq"), None);
    }
}
