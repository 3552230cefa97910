//! Valid commands, damaged at random: never a panic, never another course when the pieces are cut otherwise, and a
//! machine that still works afterwards.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod play;

use play::{Player, play_by};

/// Pieces of commands; each kind of argument at least once.
const SEEDS: &[&str] = &[
    "a CAPABILITY\r\n",
    "a ID (\"name\" \"x\" \"version\" NIL)\r\n",
    "a LOGIN fred {6+}\r\nsesame\r\n",
    "a AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=\r\n",
    "a AUTHENTICATE PLAIN\r\ndGVzdA==\r\n",
    "a ENABLE CONDSTORE UTF8=ACCEPT\r\n",
    "a SELECT \"in\\\"box\" (CONDSTORE QRESYNC (67890007 20050715194045000 41:211,214:541 (1:3 4:6)))\r\n",
    "a CREATE &U,BTFw-/x (USE (\\Sent \\Trash))\r\n",
    "a RENAME {3}\r\nabc {3+}\r\ndef\r\n",
    "a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"*\" %/x) RETURN (CHILDREN STATUS (MESSAGES UIDNEXT))\r\n",
    "a LSUB \"#news.\" \"comp.*\"\r\n",
    "a STATUS blurdybloop (UIDNEXT MESSAGES HIGHESTMODSEQ)\r\n",
    "a APPEND x (\\Seen $Work) \" 7-Feb-1994 21:52:25 -0800\" {5+}\r\nhello (\\Draft) {3}\r\nbye\r\n",
    "a APPEND {1+}\r\nx UTF8 (~{2+}\r\nhi)\r\n",
    "a IDLE\r\nDONE\r\n",
    "a UID EXPUNGE 1:3,5:*\r\n",
    "a SEARCH RETURN (MIN SAVE) CHARSET UTF-8 OR (FROM \"x\" NOT SEEN) (SINCE 1-Feb-1994 MODSEQ 7) 1:*,$ HEADER a {1+}\r\nb\r\n",
    "a UID FETCH 1:* (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (a \"b\")]<0.5> BINARY[1]<1.2>) (CHANGEDSINCE 5 VANISHED)\r\n",
    "a STORE 1 (UNCHANGEDSINCE 7) +FLAGS.SILENT (\\Deleted x)\r\n",
    "a UID MOVE $ \"Sent Mail\"\r\n",
];

/// xorshift64*: reproducible from its seed, and good enough to break things.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn damage(random: &mut Random, octets: &mut Vec<u8>) {
    const SPICE: &[u8] = b"()[]{}<>\"\\ *%$+~&,:.\r\n\0\xff019aZ";
    let at = random.below(octets.len());
    match random.below(5) {
        0 => octets[at] = random.next() as u8,
        1 => octets[at] = SPICE[random.below(SPICE.len())],
        2 => octets.insert(at, SPICE[random.below(SPICE.len())]),
        3 => drop(octets.remove(at)),
        _ => {
            let end = (at + random.below(12)).min(octets.len());
            let piece = octets[at..end].to_vec();
            let to = random.below(octets.len());
            octets.splice(to..to, piece);
        }
    }
}

#[test]
fn garbage_never_panics_and_goes_one_way() {
    let mut random = Random(0x9051_3501);
    for _ in 0..6000 {
        let mut octets = Vec::new();
        for _ in 0..=random.below(3) {
            octets.extend_from_slice(SEEDS[random.below(SEEDS.len())].as_bytes());
        }
        for _ in 0..random.below(6) {
            damage(&mut random, &mut octets);
        }
        let authenticated = random.below(4) > 0;
        let utf8 = random.below(3) == 0;
        play_by(
            || {
                let mut player = if authenticated { Player::logged_in() } else { Player::stranger() };
                if utf8 {
                    player.server.set_utf8();
                }
                player
            },
            &octets,
        );
    }
}

#[test]
fn every_seed_is_a_command() {
    for seed in SEEDS {
        let player = play_by(Player::logged_in, seed.as_bytes());
        assert!(!player.log.iter().any(|line| line.contains(" BAD ")), "{:#?}", player.log);
    }
}
