//! Structures whose layout differs between the host and the program.
#![expect(unsafe_code, reason = "structures of the C library start as zeroes")]

/// An empty `struct stat`.
pub fn zeroed_stat() -> libc::stat {
    // SAFETY: numbers only: zeroes are values.
    unsafe { std::mem::zeroed() }
}

/// An empty `struct statfs`.
pub fn zeroed_statfs() -> libc::statfs {
    // SAFETY: numbers only: zeroes are values.
    unsafe { std::mem::zeroed() }
}

/// Fields one after the other, each of some bytes, least significant first.
struct Fields(Vec<u8>);

impl Fields {
    fn put(&mut self, value: i128, len: usize) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes()[..len]);
        self
    }
}

/// `struct stat` of the 64-bit architectures without a history of their own (Linux,
/// `asm-generic/stat.h`).
pub fn generic_stat(stat: &libc::stat) -> Vec<u8> {
    let mut fields = Fields(Vec::with_capacity(128));
    fields.put(stat.st_dev.into(), 8).put(stat.st_ino.into(), 8);
    fields.put(stat.st_mode.into(), 4).put(stat.st_nlink.into(), 4);
    fields.put(stat.st_uid.into(), 4).put(stat.st_gid.into(), 4);
    fields.put(stat.st_rdev.into(), 8).put(0, 8).put(stat.st_size.into(), 8);
    fields.put(stat.st_blksize.into(), 4).put(0, 4).put(stat.st_blocks.into(), 8);
    fields.put(stat.st_atime.into(), 8).put(stat.st_atime_nsec.into(), 8);
    fields.put(stat.st_mtime.into(), 8).put(stat.st_mtime_nsec.into(), 8);
    fields.put(stat.st_ctime.into(), 8).put(stat.st_ctime_nsec.into(), 8);
    fields.put(0, 8);
    fields.0
}

/// `struct stat` of x86-64 (Linux, `asm/stat.h`).
pub fn x86_64_stat(stat: &libc::stat) -> Vec<u8> {
    let mut fields = Fields(Vec::with_capacity(144));
    fields.put(stat.st_dev.into(), 8).put(stat.st_ino.into(), 8).put(stat.st_nlink.into(), 8);
    fields.put(stat.st_mode.into(), 4).put(stat.st_uid.into(), 4).put(stat.st_gid.into(), 4);
    fields.put(0, 4).put(stat.st_rdev.into(), 8).put(stat.st_size.into(), 8);
    fields.put(stat.st_blksize.into(), 8).put(stat.st_blocks.into(), 8);
    fields.put(stat.st_atime.into(), 8).put(stat.st_atime_nsec.into(), 8);
    fields.put(stat.st_mtime.into(), 8).put(stat.st_mtime_nsec.into(), 8);
    fields.put(stat.st_ctime.into(), 8).put(stat.st_ctime_nsec.into(), 8);
    fields.0.resize(144, 0);
    fields.0
}

/// `struct stat64` of i386 (Linux, `asm/stat.h`).
pub fn i386_stat64(stat: &libc::stat) -> Vec<u8> {
    let mut fields = Fields(Vec::with_capacity(96));
    fields.put(stat.st_dev.into(), 8).put(0, 4).put(stat.st_ino.into(), 4);
    fields.put(stat.st_mode.into(), 4).put(stat.st_nlink.into(), 4);
    fields.put(stat.st_uid.into(), 4).put(stat.st_gid.into(), 4);
    fields.put(stat.st_rdev.into(), 8).put(0, 4).put(stat.st_size.into(), 8);
    fields.put(stat.st_blksize.into(), 4).put(stat.st_blocks.into(), 8);
    fields.put(stat.st_atime.into(), 4).put(stat.st_atime_nsec.into(), 4);
    fields.put(stat.st_mtime.into(), 4).put(stat.st_mtime_nsec.into(), 4);
    fields.put(stat.st_ctime.into(), 4).put(stat.st_ctime_nsec.into(), 4);
    fields.put(stat.st_ino.into(), 8);
    fields.0
}

/// `struct statfs64` of 32-bit programs (Linux, `asm-generic/statfs.h`).
pub fn narrow_statfs(about: &libc::statfs) -> Vec<u8> {
    let raw = raw_statfs(about);
    let mut fields = Fields(Vec::with_capacity(84));
    let [kind, block, blocks, free, available, files, free_files, id, name, fragment, flags] = raw;
    fields.put(kind.into(), 4).put(block.into(), 4);
    for wide in [blocks, free, available, files, free_files, id] {
        fields.put(wide.into(), 8);
    }
    fields.put(name.into(), 4).put(fragment.into(), 4).put(flags.into(), 4);
    fields.0.resize(84, 0);
    fields.0
}

/// The words of the host's `struct statfs`.
fn raw_statfs(about: &libc::statfs) -> [u64; 11] {
    let at: *const libc::statfs = about;
    // SAFETY: on 64-bit hosts the structure begins with eleven numbers of 64 bits.
    unsafe { *at.cast::<[u64; 11]>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generic_stat_has_its_fields_where_programs_look() {
        let mut stat = zeroed_stat();
        (stat.st_mode, stat.st_nlink, stat.st_size) = (0o100_644, 3, 0x1234);
        (stat.st_blksize, stat.st_blocks, stat.st_ctime_nsec) = (4096, 7, 9);
        let image = generic_stat(&stat);
        let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        assert_eq!(image.len(), 128);
        assert_eq!((word(16), word(20), word(48)), (0o100_644, 3, 0x1234));
        assert_eq!((word(56), word(64), word(112)), (4096, 7, 9));
    }
}
