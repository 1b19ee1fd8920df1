//! The outer form of netlink messages: headers and attributes, built and taken apart.
//!
//! `dump` and `apply` build requests with it and read answers with it. Only what they need is looked at: a decoder
//! that insists on understanding every attribute fails as a whole on a newer kernel, and with it would the node.

/// `sizeof(struct nlmsghdr)`.
pub(crate) const HEADER: usize = 16;

/// One message that the kernel sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// `nlmsg_flags`.
    pub(crate) flags: u16,
    /// `nlmsg_seq`: the request that it answers.
    pub(crate) seq: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

/// The messages of one datagram, in order. A message that claims more bytes than there are ends the walk.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = read_u32(self.0, 0)? as usize;
        let message = Message {
            kind: read_u16(self.0, 4)?,
            flags: read_u16(self.0, 6)?,
            seq: read_u32(self.0, 8)?,
            body: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes of a message: (type without its two flag bits, value). A broken one ends the walk.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(read_u16(self.0, 0)?);
        let kind = read_u16(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// One message to the kernel, as bytes.
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// A message with its fixed part; `flags` beside `NLM_F_REQUEST`, which is always there.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend([0; 8]); // the number comes last, the kernel fills in our port
        bytes.extend(fixed);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.pad();
        let length = u16::try_from(4 + value.len()).expect("attributes of ours are a few bytes long");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self
    }

    /// The finished bytes with the number that the answer will carry, padded so that another message may follow.
    pub(crate) fn finish(mut self, seq: u32) -> Vec<u8> {
        self.pad();
        let length = u32::try_from(self.0.len()).expect("messages of ours are a few hundred bytes long");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&seq.to_ne_bytes());
        self.0
    }

    fn pad(&mut self) {
        self.0.resize(aligned(self.0.len()), 0);
    }
}

/// The `u16` at this offset, in the machine's byte order.
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The `u32` at this offset, in the machine's byte order.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_with_its_attributes() {
        let mut bytes = Request::new(20, 5, &[1; 8]).with(11, &[9]).with(8, &[1, 2, 3, 4]).finish(7);
        bytes.extend(Request::new(21, 0, &[2; 8]).finish(8));
        let messages: Vec<Message> = Messages(&bytes).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].flags, messages[0].seq), (20, 5 | 1, 7));
        let attributes: Vec<_> = Attributes(&messages[0].body[8..]).collect();
        assert_eq!(attributes, [(11, &[9][..]), (8, &[1, 2, 3, 4][..])]);
        assert_eq!((messages[1].kind, messages[1].seq, messages[1].body), (21, 8, &[2; 8][..]));
    }

    #[test]
    fn broken_lengths_end_the_walk_and_never_panic() {
        for length in [0u32, 1, 15, 17, 1000, u32::MAX] {
            let mut bytes = vec![0; HEADER];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Messages(&bytes).count(), 0, "length {length}");
        }
        for length in [0u16, 3, 5, u16::MAX] {
            let bytes = [length.to_ne_bytes(), 1u16.to_ne_bytes()].concat();
            assert_eq!(Attributes(&bytes).count(), 0, "length {length}");
        }
        for cut in 0..HEADER {
            assert_eq!(Messages(&vec![16; cut]).count(), 0);
        }
    }
}
