//! How records are written within a segment: whole numbers seven bits at a time, texts behind their length.

use base::{Enhanced, Reply};

#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn int(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.int(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.int(reply.code.into());
        match reply.enhanced {
            None => self.int(0),
            Some(Enhanced(class, subject, detail)) => {
                [class.into(), subject, detail].into_iter().for_each(|n: u16| self.int(n.into()));
            }
        }
        self.text(&reply.text);
    }
}

/// None from each where the record is no such thing.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn int(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.int()?).ok()
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length: usize = self.number()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let code = self.number()?;
        let enhanced = match self.number()? {
            0 => None,
            class => Some(Enhanced(class, self.number()?, self.number()?)),
        };
        Some(Reply { code, enhanced, text: self.string()?.into() })
    }
}
