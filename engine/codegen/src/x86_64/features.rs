//! What processors have, and what generated code makes of it.

/// What the host has beyond what every host must have ([`super::host_supported`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFeatures {
    /// SHA-1 and SHA-256.
    pub sha: bool,
    /// AVX-512 with its vector lengths, bytes and words.
    pub avx512: bool,
}

impl HostFeatures {
    /// What this host has.
    pub fn of_host() -> Self {
        #[cfg(target_arch = "x86_64")]
        return Self {
            sha: std::arch::is_x86_feature_detected!("sha"),
            avx512: std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl"),
        };
        #[cfg(not(target_arch = "x86_64"))]
        Self::default()
    }
}
