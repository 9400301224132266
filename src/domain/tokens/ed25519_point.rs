//! Which 32 bytes are a public key of Ed25519 (RFC 8032, section 5.1.3).
//!
//! The library takes any 32 bytes as a key, and finds at each signature that they are none. Here they are
//! checked once. Nothing is secret, so that nothing has to take the same time.

/// A number below 2^256, the least significant word first. It stands for its remainder modulo 2^255 - 19.
type Element = [u64; 4];

/// The modulus, p.
const PRIME: Element = [0xffff_ffff_ffff_ffed, u64::MAX, u64::MAX, u64::MAX >> 1];
const ONE: Element = [1, 0, 0, 0];
/// p - 1.
const MINUS_ONE: Element = [0xffff_ffff_ffff_ffec, u64::MAX, u64::MAX, u64::MAX >> 1];
/// (p - 1) / 2.
const HALF: Element = [0xffff_ffff_ffff_fff6, u64::MAX, u64::MAX, u64::MAX >> 2];
/// The constant of the curve, -121665 / 121666.
const D: Element =
    [0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73];
/// Of the eight points of small order, the y. Signatures under such a key prove nothing: anyone can make them.
const OF_SMALL_ORDER: [Element; 5] = [
    [0; 4],
    ONE,
    MINUS_ONE,
    [0xb027_b2c2_8f95_e826, 0xf098_eff2_89f4_c345, 0x3933_c6d3_05ac_dfd5, 0x05fc_536d_8802_38b1],
    [0x4fd8_4d3d_706a_17c7, 0x0f67_100d_760b_3cba, 0xc6cc_392c_fa53_202a, 0x7a03_ac92_77fd_c74e],
];

/// Whether these bytes are a point of the curve of large order, in its only encoding.
pub fn is_public_key(bytes: &[u8; 32]) -> bool {
    let mut y: Element = [0; 4];
    for (word, part) in y.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    // The highest bit is the sign of x.
    y[3] &= u64::MAX >> 1;
    is_reduced(&y) && !OF_SMALL_ORDER.contains(&y) && has_x(&y)
}

/// Whether there is an x with this y: x^2 = (y^2 - 1) / (d y^2 + 1).
fn has_x(y: &Element) -> bool {
    let square = multiply(y, y);
    // The quotient of two numbers is a square where their product is one.
    let product = multiply(&add(&square, &MINUS_ONE), &add(&multiply(&D, &square), &ONE));
    // Euler's criterion.
    let mut power = ONE;
    for bit in (0..256).rev() {
        power = multiply(&power, &power);
        if HALF[bit / 64] >> (bit % 64) & 1 == 1 {
            power = multiply(&power, &product);
        }
    }
    reduced(power) == ONE
}

fn is_reduced(element: &Element) -> bool {
    element.iter().rev().lt(PRIME.iter().rev())
}

/// The remainder itself.
fn reduced(mut element: Element) -> Element {
    while !is_reduced(&element) {
        let mut borrow = false;
        for (word, prime) in element.iter_mut().zip(PRIME) {
            let (less, first) = word.overflowing_sub(prime);
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (less, first || second);
        }
    }
    element
}

fn add(a: &Element, b: &Element) -> Element {
    let mut carry = 0;
    let sum = std::array::from_fn(|i| {
        carry += u128::from(a[i]) + u128::from(b[i]);
        take_word(&mut carry)
    });
    carried(sum, carry)
}

fn multiply(a: &Element, b: &Element) -> Element {
    let mut wide = [0_u64; 8];
    for (i, &a) in a.iter().enumerate() {
        let mut carry = 0;
        for (j, &b) in b.iter().enumerate() {
            carry += u128::from(wide[i + j]) + u128::from(a) * u128::from(b);
            wide[i + j] = take_word(&mut carry);
        }
        wide[i + 4] = take_word(&mut carry);
    }
    // 2^256 is 38.
    let mut carry = 0;
    let product = std::array::from_fn(|i| {
        carry += u128::from(wide[i]) + 38 * u128::from(wide[i + 4]);
        take_word(&mut carry)
    });
    carried(product, carry)
}

/// The number with this many times 2^256 added.
fn carried(mut element: Element, mut carry: u128) -> Element {
    while carry > 0 {
        carry *= 38;
        for word in &mut element {
            carry += u128::from(*word);
            *word = take_word(&mut carry);
        }
    }
    element
}

/// The lower word, which is taken off.
fn take_word(wide: &mut u128) -> u64 {
    let word = *wide as u64;
    *wide >>= 64;
    word
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

    use super::*;

    fn bytes(y: &Element) -> [u8; 32] {
        y.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn every_key_of_a_pair_is_one() {
        for _ in 0..50 {
            let pair = Ed25519KeyPair::generate().unwrap();
            let key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
            assert!(is_public_key(&key), "{key:?}");
        }
    }

    #[test]
    fn about_half_of_all_numbers_are_no_point() {
        // The smallest without an x, computed by other means.
        let without = [2, 7, 8, 11, 12, 13, 17, 20, 22, 31, 34, 36, 38];
        for y in 2..40 {
            for sign in [0, 1 << 63] {
                assert_eq!(is_public_key(&bytes(&[y, 0, 0, sign])), !without.contains(&y), "{y}");
            }
        }
        // p + 3 is another encoding of 3.
        let other = [PRIME[0] + 3, PRIME[1], PRIME[2], PRIME[3]];
        assert!(is_public_key(&bytes(&[3, 0, 0, 0])) && !is_public_key(&bytes(&other)));
        assert!(!is_public_key(&[0xff; 32]) && !is_public_key(&bytes(&PRIME)));
    }

    #[test]
    fn a_point_of_small_order_is_no_key() {
        for y in &OF_SMALL_ORDER {
            assert!(has_x(y) || reduced(add(&multiply(y, y), &MINUS_ONE)) == [0; 4], "{y:?} is a point");
            assert!(!is_public_key(&bytes(y)));
        }
        // Why: the signature of zeros, of which R is the neutral element, holds for any message.
        let neutral = bytes(&ONE);
        let signature = [neutral, [0; 32]].concat();
        assert!(UnparsedPublicKey::new(&ED25519, neutral).verify(b"anything", &signature).is_ok());
    }
}
