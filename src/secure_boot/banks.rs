//! Registers of a TPM in all banks at once (TCG PC Client Platform Firmware Profile 1.05, 3.3).

use std::io::{self, Write};

use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use serde_json::{Map, Value};

/// The banks and what they are called.
const BANKS: [(&str, &Algorithm); 4] =
    [("sha1", &SHA1_FOR_LEGACY_USE_ONLY), ("sha256", &SHA256), ("sha384", &SHA384), ("sha512", &SHA512)];

/// A digest in every bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests([Vec<u8>; BANKS.len()]);

impl Digests {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Digests {
        let mut hashing = Hashing::default();
        hashing.update(bytes);
        hashing.finish()
    }

    /// Of a bank by its name.
    pub fn bank(&self, name: &str) -> Option<&[u8]> {
        BANKS.iter().zip(&self.0).find(|((bank, _), _)| *bank == name).map(|(_, digest)| digest.as_slice())
    }

    /// As JSON: the banks with their digests in hexadecimal.
    pub fn to_json(&self) -> Value {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let banks = BANKS.iter().zip(&self.0).map(|((name, _), digest)| ((*name).to_owned(), hex(digest).into()));
        Value::Object(banks.collect::<Map<_, _>>())
    }
}

/// Hashes what is written to it in every bank.
pub struct Hashing([Context; BANKS.len()]);

impl Default for Hashing {
    fn default() -> Hashing {
        Hashing(BANKS.map(|(_, algorithm)| Context::new(algorithm)))
    }
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashing").finish_non_exhaustive()
    }
}

impl Hashing {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|context| context.update(bytes));
    }

    /// The digests of all that was added.
    pub fn finish(self) -> Digests {
        Digests(self.0.map(|context| context.finish().as_ref().to_vec()))
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A register in every bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register(Digests);

impl Default for Register {
    /// As after a start: zeros.
    fn default() -> Register {
        Register(Digests(BANKS.map(|(_, algorithm)| vec![0; algorithm.output_len()])))
    }
}

impl Register {
    /// What it becomes by an event.
    pub fn extend(&mut self, by: &Digests) {
        for (((_, algorithm), value), by) in BANKS.iter().zip(&mut self.0.0).zip(&by.0) {
            let mut context = Context::new(algorithm);
            context.update(value);
            context.update(by);
            *value = context.finish().as_ref().to_vec();
        }
    }

    /// What it holds.
    pub fn value(&self) -> &Digests {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banks_have_their_lengths_and_extend() {
        let mut register = Register::default();
        assert_eq!(register.value().bank("sha256").unwrap(), [0; 32]);
        register.extend(&Digests::of(&[0; 4]));
        // What every machine has in PCR 1 to 6 that measured nothing but the separator.
        let json = register.value().to_json();
        assert_eq!(json["sha1"], "b2a83b0ebf2f8374299a5b2bdfc31ea955ad7236");
        assert_eq!(json["sha256"], "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969");
        assert_eq!(register.value().bank("sha512").unwrap().len(), 64);
    }
}
