//! The two 16-bit floating-point types of tensors, as bits.

/// The value of an IEEE 754 binary16.
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Zero and what is below the smallest normal number: multiples of 2⁻²⁴.
        0 => f32::from_bits(sign | (fraction as f32 * 2.0f32.powi(-24)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The nearest IEEE 754 binary16; of two, the even one. Past 65504 it is infinite.
pub(super) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude < 0x3880_0000 {
        // Adding 1/2 puts the last bit of the sum at 2⁻²⁴: the addition rounds as it should.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        round_even(magnitude - (112 << 23), 13)
    };
    sign | rounded as u16
}

/// The value of a bfloat16.
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16; of two, the even one.
pub(super) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    round_even(bits, 16) as u16
}

/// Drops the last `places` bits.
fn round_even(bits: u32, places: u32) -> u32 {
    let odd = bits >> places & 1;
    (bits + (1 << (places - 1)) - 1 + odd) >> places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_value_survives() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16_to_f32(bits), bf16_to_f32(bits));
            if half.is_nan() {
                assert!(f16_to_f32(f32_to_f16(half)).is_nan());
            } else {
                assert_eq!(f32_to_f16(half), bits, "{half}");
            }
            if brain.is_nan() {
                assert!(bf16_to_f32(f32_to_bf16(brain)).is_nan());
            } else {
                assert_eq!(f32_to_bf16(brain), bits, "{brain}");
            }
        }
    }

    #[test]
    fn the_middle_between_two_goes_to_the_even_one_and_all_else_to_the_nearest() {
        for bits in 0..0x7c00u16 {
            let (a, b) = (f16_to_f32(bits), f16_to_f32(bits + 1));
            let middle = if b.is_infinite() { 65520.0 } else { a + (b - a) / 2.0 };
            let even = bits + (bits & 1);
            assert_eq!(f32_to_f16(middle), even, "{middle}");
            assert_eq!(f32_to_f16(middle.next_down()), bits, "{middle}");
            assert_eq!(f32_to_f16(-middle.next_up()), (bits + 1) | 0x8000, "{middle}");
        }
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(f32_to_bf16(f32::MAX), 0x7f80);
        assert_eq!(f16_to_f32(0x3c00), 1.0);
        assert_eq!(f16_to_f32(0x0001), 2.0f32.powi(-24));
        assert_eq!(bf16_to_f32(0x4049), 3.140625);
    }
}
