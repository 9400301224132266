//! Keys that belong to no issuer, with which signatures are verified where no key could have made them.

use std::sync::LazyLock;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};

use super::algorithm::Algorithm;
use super::jwk::{IssuerKey, KeyUse};
use super::jwk_set::KeySet;

/// Keys with which signatures are verified where there is none that could have made them, so that it takes as
/// long: a rule that does not exist must not be refused sooner than one that does.
///
/// The points are the base points of the curves, whose private keys are public. The result of a verification with one is
/// thrown away.
static DECOYS: LazyLock<KeySet> = LazyLock::new(|| {
    let rsa =
        |bytes: usize| format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, BASE64URL.encode(vec![0xff; bytes]));
    let keys = [
        r#"{"kty":"OKP","crv":"Ed25519","x":"WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"}"#.to_owned(),
        concat!(
            r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","#,
            r#""y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#
        )
        .to_owned(),
        concat!(
            r#"{"kty":"EC","crv":"P-384","x":"qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3","#,
            r#""y":"NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"}"#
        )
        .to_owned(),
        concat!(
            r#"{"kty":"EC","crv":"P-521","#,
            r#""x":"AMaFjga3BATpzZ4-y2YjlbRCnGSBOQU_tSH4KK9ga009uqFLXnfv51ko_h3BJ6L_qN4zSLPBhWpCm_l-fjHC5b1m","#,
            r#""y":"ARg5KWp4mjvABFyKX7QsfRvZmPVESVebRGgXr70XJz5mLJfucple9CZAxVC5AT-tB2E1PHCGonLCQIi-lHaf0WZQ"}"#
        )
        .to_owned(),
        rsa(256),
        rsa(384),
        rsa(512),
    ];
    let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    KeySet::parse(text.as_bytes(), KeyUse::Signature, &Algorithm::ALL).expect("a constant is a set")
});

/// A key to verify a signature of this algorithm and length with where there is none, and the signature in the
/// length that the key needs.
pub fn decoy(algorithm: Algorithm, signature: &[u8]) -> (&'static IssuerKey, Vec<u8>) {
    let of = || DECOYS.keys().iter().filter(|key| key.algorithms().any(|known| known == algorithm));
    let longest = of().next_back().expect("there is one for each algorithm");
    let key = of().find(|key| key.signature_len >= signature.len()).unwrap_or(longest);
    // What is shorter is a smaller number.
    let mut padded = vec![0; key.signature_len.saturating_sub(signature.len())];
    padded.extend(signature.iter().take(key.signature_len));
    (key, padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_decoy_for_each_algorithm_and_length() {
        for algorithm in Algorithm::ALL {
            for length in [0, 1, 64, 96, 132, 256, 300, 512, 4_096] {
                let signature = vec![1; length];
                let (key, padded) = decoy(algorithm, &signature);
                assert!(key.may_have_signed(algorithm, &padded), "{algorithm:?} {length}");
                assert!(!key.verifies(algorithm, b"message", &padded));
            }
        }
        assert_eq!(DECOYS.keys().len(), 7);
        assert_eq!(decoy(Algorithm::Rs256, &[1; 384]).1.len(), 384);
    }
}
