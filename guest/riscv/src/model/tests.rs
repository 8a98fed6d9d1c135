//! Models, registers and names, as QEMU 10.0 answers them.


