//! Kernels, firmware and initial RAM disks.

#![no_main]

fuzz::target!(kernel);
