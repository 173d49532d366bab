//! Which events each command has.

use super::{EventClass, Teller};
use crate::command::{
    FieldOp, GetExCommand, GetExExpiry, KeyCommand, SetCommand, SetCondition, SetExpiry, SetReply,
};
use crate::keyspace::{Effect, Effects};
use crate::resp::Reply;

impl Teller<'_> {
    pub(super) fn command(&mut self, command: &KeyCommand, effects: &Effects, reply: &Reply) {
        use KeyCommand as K;
        match command {
            K::Set(set) => self.set(set),
            K::GetDel { key } => {
                if self.reads(key) {
                    self.deletes(key, "del");
                }
            }
            K::GetEx(get) => self.get_ex(get, effects),
            K::MSet { pairs } => {
                for (key, _) in pairs {
                    self.gives(key, "set");
                }
            }
            K::MSetNx { pairs } => {
                for (key, _) in pairs {
                    // Redis looks no further than the first that is there.
                    if self.is_there(key) {
                        return;
                    }
                }
                for (key, _) in pairs {
                    self.gives(key, "set");
                }
            }
            K::Append { key, .. } => self.gives(key, "append"),
            K::SetRange { value, .. } if value.is_empty() => {}
            K::SetRange { key, .. } => self.gives(key, "setrange"),
            K::SetBit { key, .. } => {
                self.is_there(key);
                if sets(effects) {
                    self.gives(key, "setbit");
                }
            }
            K::BitField { key, ops, .. } => self.bit_field(key, ops, effects),
            K::BitOp { keys, .. } => self.bit_op(keys, effects),
            K::IncrBy { key, .. } => self.gives(key, "incrby"),
            K::IncrByFloat { key, .. } => self.gives(key, "incrbyfloat"),
            K::Del { keys } => {
                for key in keys {
                    self.deletes(key, "del");
                }
            }
            K::DelIfEqual { key, .. } => {
                if self.is_there(key) && *reply == Reply::Integer(1) {
                    self.deletes(key, "del");
                }
            }
            K::Restore(restore) if sets(effects) => {
                self.is_there(&restore.key);
                self.makes_anew(&restore.key);
                self.say(EventClass::Generic, "restore", &restore.key);
            }
            // It had expired before it came.
            K::Restore(restore) => self.deletes(&restore.key, "del"),
            K::Rename(rename) => self.rename(&rename.from, &rename.to, effects),
            K::Copy(copy) => {
                if self.reads(&copy.from) {
                    self.is_there(&copy.to);
                    if *reply == Reply::Integer(1) {
                        self.makes_anew(&copy.to);
                        self.say(EventClass::Generic, "copy_to", &copy.to);
                    }
                }
            }
            K::Expire(expire) => self.expire(&expire.key, effects, reply),
            K::Persist { key } => {
                if self.is_there(key) && *reply == Reply::Integer(1) {
                    self.say(EventClass::Generic, "persist", key);
                }
            }
            K::Get { .. }
            | K::MGet { .. }
            | K::StrLen { .. }
            | K::GetRange { .. }
            | K::Lcs(_)
            | K::GetBit { .. }
            | K::BitCount(_)
            | K::BitPos(_)
            | K::Exists { .. }
            | K::Touch { .. }
            | K::Dump { .. }
            | K::Ttl { .. }
            | K::Type { .. } => {
                for key in command.keys() {
                    self.reads(key);
                }
            }
            K::Object { .. } | K::MemoryUsage { .. } => {}
            K::DbSize | K::Flush | K::Keys { .. } | K::Scan(_) | K::RandomKey => {}
        }
    }

    /// A string gets a value.
    fn gives(&mut self, key: &[u8], event: &'static str) {
        self.makes(key);
        self.say(EventClass::Strings, event, key);
    }

    fn set(&mut self, set: &SetCommand) {
        let there = match set.reply {
            SetReply::OldValue => self.reads(&set.key),
            SetReply::Ok | SetReply::Count => self.is_there(&set.key),
        };
        let stored = match &set.condition {
            SetCondition::Always => true,
            SetCondition::IfMissing => !there,
            SetCondition::IfExists => there,
            SetCondition::IfEqual(wanted) => {
                let old = self.keyspace.stored(&set.key);
                there && old.is_some_and(|(old, _)| old == wanted)
            }
        };
        if !stored {
            return;
        }
        self.gives(&set.key, "set");
        let SetExpiry::At(expiry) = &set.expiry else {
            return;
        };
        self.say(EventClass::Generic, "expire", &set.key);
        // It is deleted at once; Redis does, and says so, when somebody looks.
        if expiry.at(self.now).is_some_and(|at| at < self.now) {
            self.becomes(&set.key, false);
            self.say(EventClass::Expired, "expired", &set.key);
        }
    }

    fn get_ex(&mut self, get: &GetExCommand, effects: &Effects) {
        if !self.reads(&get.key) {
            return;
        }
        match (&get.expiry, effects.iter().last()) {
            (GetExExpiry::Keep, _) | (_, None) => {}
            (GetExExpiry::Clear, Some(_)) => {
                self.say(EventClass::Generic, "persist", &get.key);
            }
            (GetExExpiry::At(_), Some(Effect::Del { .. })) => self.deletes(&get.key, "del"),
            (GetExExpiry::At(_), Some(_)) => self.say(EventClass::Generic, "expire", &get.key),
        }
    }

    fn bit_field(&mut self, key: &[u8], ops: &[FieldOp], effects: &Effects) {
        if sets(effects) {
            self.gives(key, "setbit");
        } else if !ops.iter().any(FieldOp::writes) {
            self.reads(key);
        } else {
            self.is_there(key);
        }
    }

    fn bit_op(&mut self, keys: &[bytes::Bytes], effects: &Effects) {
        let [destination, sources @ ..] = keys else {
            return;
        };
        for key in sources {
            self.reads(key);
        }
        if sets(effects) {
            self.gives(destination, "set");
        } else {
            self.deletes(destination, "del");
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8], effects: &Effects) {
        if !self.is_there(from) || from == to {
            return;
        }
        self.is_there(to);
        if sets(effects) {
            self.makes_anew(to);
            self.becomes(from, false);
            self.say(EventClass::Generic, "rename_from", from);
            self.say(EventClass::Generic, "rename_to", to);
        }
    }

    fn expire(&mut self, key: &[u8], effects: &Effects, reply: &Reply) {
        if !self.is_there(key) || *reply != Reply::Integer(1) {
            return;
        }
        match effects.iter().last() {
            Some(Effect::Del { .. }) => self.deletes(key, "del"),
            _ => self.say(EventClass::Generic, "expire", key),
        }
    }
}

/// Whether a key gets a value.
fn sets(effects: &Effects) -> bool {
    let mut effects = effects.iter();
    effects.any(|effect| matches!(effect, Effect::Set { .. }))
}
