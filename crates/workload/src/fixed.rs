//! Logarithm, power and the normal distribution in integers.
//!
//! The floating-point ones differ in their last bits from one platform's library to the next, and a generated workload
//! must be the same everywhere. Numbers are fixed-point with 32 bits after the point (`_q32`).

/// One, with 32 bits after the point.
pub const ONE_Q32: u64 = 1 << 32;

const LN_2_Q32: u128 = 2_977_044_472;

/// 2 to the power 1/2, 1/4, 1/8 … with 62 bits after the point. Each is the square root of the one before.
const ROOTS_OF_2_Q62: [u64; 32] = [
    0x5a82_7999_fcef_3242,
    0x4c1b_f828_c6dc_54b8,
    0x45ca_e0f1_f545_eb73,
    0x42d5_61b3_e624_3d8a,
    0x4166_c34c_5615_d0ec,
    0x40b2_68f9_de01_83ba,
    0x4058_f6a7_eccc_d5b6,
    0x402c_6be9_6af2_fb58,
    0x4016_321b_6870_27a8,
    0x400b_1817_8ba3_3b14,
    0x4005_8bce_4101_47e8,
    0x4002_c5d7_bff7_1daf,
    0x4001_62e8_07ee_7e5b,
    0x4000_b173_0df6_a524,
    0x4000_58b9_497b_8152,
    0x4000_2c5c_955d_d701,
    0x4000_162e_46d6_f26c,
    0x4000_0b17_2275_7b1b,
    0x4000_058b_90fd_3e0c,
    0x4000_02c5_c86f_3f26,
    0x4000_0162_e433_c79b,
    0x4000_00b1_7218_edd0,
    0x4000_0058_b90c_3968,
    0x4000_002c_5c86_0d54,
    0x4000_0016_2e43_02d2,
    0x4000_000b_1721_8073,
    0x4000_0005_8b90_bffc,
    0x4000_0002_c5c8_5fef,
    0x4000_0001_62e4_2ff3,
    0x4000_0000_b172_17f9,
    0x4000_0000_58b9_0bfc,
    0x4000_0000_2c5c_85fe,
];

/// The upper half of the normal distribution: share below, deviation; both with 32 bits after the point. The last point
/// is at 99.99%, where the tail is cut.
const NORMAL_Q32: [(u64, u64); 23] = [
    (2_147_483_648, 0),
    (2_362_232_013, 539_711_375),
    (2_576_980_378, 1_088_117_523),
    (2_791_728_742, 1_654_938_802),
    (3_006_477_107, 2_252_283_052),
    (3_221_225_472, 2_896_911_419),
    (3_435_973_837, 3_614_735_674),
    (3_650_722_202, 4_451_447_512),
    (3_865_470_566, 5_504_222_062),
    (3_972_844_749, 6_182_740_589),
    (4_080_218_931, 7_064_592_534),
    (4_123_168_604, 7_519_139_422),
    (4_166_118_277, 8_077_947_038),
    (4_209_067_950, 8_820_784_405),
    (4_230_542_787, 9_320_467_201),
    (4_252_017_623, 9_991_588_038),
    (4_264_902_525, 10_553_865_899),
    (4_273_492_460, 11_063_102_619),
    (4_282_082_394, 11_801_631_187),
    (4_286_377_361, 12_361_610_542),
    (4_290_672_329, 13_272_446_692),
    (4_292_819_812, 14_132_704_698),
    (4_294_537_799, 15_973_054_178),
];

/// The deviation below which 99% of a normal distribution lie.
pub(crate) const NORMAL_P99_Q32: u64 = 9_991_588_038;

/// The logarithm to base 2 of a whole number above zero, rounded down.
pub(crate) fn log2_q32(number: u64) -> u64 {
    let zeros = number.max(1).leading_zeros();
    let mut mantissa = number.max(1) << zeros;
    let mut log = u64::from(63 - zeros);
    // Squaring doubles the logarithm: each time, its next bit shows as an overflow above 2.
    for _ in 0..32 {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let overflows = square >> 64 != 0;
        log = (log << 1) | u64::from(overflows);
        mantissa = if overflows { (square >> 1) as u64 } else { square as u64 };
    }
    log
}

/// Minus the natural logarithm of `bits` / 2^64; of the smallest part of one where `bits` is zero.
pub(crate) fn minus_ln_q32(bits: u64) -> u64 {
    let minus_log2 = (64 << 32) - log2_q32(bits);
    ((u128::from(minus_log2) * LN_2_Q32) >> 32) as u64
}

/// 2 to the power of each eight bits of a fraction, the upper ones first, with 62 bits after the point.
const POWERS_OF_2_Q62: [[u64; 256]; 4] = {
    let mut powers = [[0; 256]; 4];
    let mut place = 0;
    while place < 4 {
        let mut bits = 0;
        while bits < 256 {
            let mut factor_q62: u128 = 1 << 62;
            let mut root = 0;
            while root < 8 {
                if bits >> (7 - root) & 1 == 1 {
                    factor_q62 = (factor_q62 * ROOTS_OF_2_Q62[8 * place + root] as u128) >> 62;
                }
                root += 1;
            }
            powers[place][bits] = factor_q62 as u64;
            bits += 1;
        }
        place += 1;
    }
    powers
};

/// `number` times 2 to the power `exponent_q32`, or `most` where that is less.
pub fn times_power_of_2(number: u64, exponent_q32: i64, most: u64) -> u64 {
    let fraction = (exponent_q32 & (ONE_Q32 as i64 - 1)) as u64;
    let whole = exponent_q32 >> 32;
    let mut factor_q62: u128 = 1 << 62;
    for (powers, bits) in POWERS_OF_2_Q62.iter().zip((fraction as u32).to_be_bytes()) {
        factor_q62 = (factor_q62 * u128::from(powers[usize::from(bits)])) >> 62;
    }
    // `number` × a factor below 2 has at most 127 bits.
    let product_q62 = u128::from(number) * factor_q62;
    let shift = 62 - whole;
    let result = match shift {
        128.. => 0,
        0..128 => product_q62 >> shift,
        _ => u128::MAX,
    };
    u64::try_from(result).unwrap_or(u64::MAX).min(most)
}

/// The deviation of a normal distribution below which a share of it lies, interpolated between the points of a table.
pub(crate) fn normal_quantile_q32(share_q32: u64) -> i64 {
    let upper = share_q32 >= ONE_Q32 / 2;
    let share = if upper { share_q32 } else { ONE_Q32 - share_q32 };
    let after = NORMAL_Q32.partition_point(|(below, _)| *below <= share);
    let deviation = match (NORMAL_Q32.get(after.wrapping_sub(1)), NORMAL_Q32.get(after)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (share - x0) / (x1 - x0),
        (Some((_, last)), None) => *last,
        (None, _) => 0,
    };
    if upper { deviation as i64 } else { -(deviation as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_and_powers_are_those_of_mathematics() {
        for number in [1_u64, 2, 3, 10, 1000, 123_456_789, u64::MAX] {
            let log = log2_q32(number) as f64 / ONE_Q32 as f64;
            assert!(((number as f64).log2() - log).abs() < 1e-9, "{number}: {log}");
        }
        assert!((minus_ln_q32(1 << 63) as f64 / ONE_Q32 as f64 - std::f64::consts::LN_2).abs() < 1e-9);
        assert_eq!(minus_ln_q32(0), minus_ln_q32(1));
        for (number, exponent) in [(1000_u64, 0.5), (1000, -0.5), (1_000_000, 3.25), (1 << 40, -20.7), (7, 0.0)] {
            let exponent_q32 = (exponent * ONE_Q32 as f64) as i64;
            let expected = number as f64 * 2_f64.powf(exponent);
            let given = times_power_of_2(number, exponent_q32, u64::MAX) as f64;
            assert!((given - expected).abs() <= 1.0 + expected * 1e-9, "{number} {exponent}: {given}");
        }
        assert_eq!(times_power_of_2(u64::MAX, 200 << 32, 5), 5);
        assert_eq!(times_power_of_2(u64::MAX, -(200 << 32), 5), 0);
    }

    #[test]
    fn each_root_is_the_root_of_the_one_before() {
        let two = 1_u128 << 63;
        let mut before = two;
        for root in ROOTS_OF_2_Q62 {
            let square = (u128::from(root) * u128::from(root)) >> 62;
            assert!(square.abs_diff(before) <= 4, "{root:x}");
            before = u128::from(root);
        }
    }

    #[test]
    fn the_normal_distribution_is_symmetric_and_rises() {
        let mut before = i64::MIN;
        for share in (0..=1024).map(|part| part * (ONE_Q32 / 1024)) {
            let deviation = normal_quantile_q32(share);
            assert_eq!(deviation, -normal_quantile_q32(ONE_Q32 - share), "{share}");
            assert!(deviation >= before);
            before = deviation;
        }
        assert_eq!(normal_quantile_q32(4_252_017_623) as u64, NORMAL_P99_Q32);
    }
}
