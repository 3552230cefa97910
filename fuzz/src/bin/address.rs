//! An address that parses is shown in a form that parses to the same address, on one line.
#![no_main]

use base::Address;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(address) = Address::parse(text) else { return };
    let shown = address.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    // 254 octets in all, those of the local part each quoted, and a domain of A-labels.
    assert!(shown.len() <= 2 * 254 + 2 + 1 + 255, "{shown:?}");
    assert_eq!(Address::parse(&shown).as_ref(), Ok(&address), "{shown:?}");
    assert_eq!(Address::new(address.local(), address.domain()).as_ref(), Ok(&address));
});
