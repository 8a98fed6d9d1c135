//! More models: as CPUID told under each of them in QEMU 10.0.2, and what it warned that it left out.

use super::models::{AMD, INTEL, Model};

/// In the order of their features: each may be like one before it.
pub(super) static MORE: &[Model] = &[
    Model {
        name: "Opteron_G1",
        vendor: AMD,
        text: "AMD Opteron 240 (Gen 1 Class Opteron)",
        signature: (15, 6, 1),
        like: "qemu32",
        features: "avx512vbmi lm nx syscall",
    },
    Model {
        name: "kvm64",
        vendor: INTEL,
        text: "Common KVM processor",
        signature: (15, 6, 1),
        like: "qemu32",
        features: "cx16 lm nx syscall",
    },
    Model {
        name: "Conroe",
        vendor: INTEL,
        text: "Intel Celeron_4x0 (Conroe/Merom Class Core 2)",
        signature: (6, 15, 3),
        like: "qemu32",
        features: "lahf-lm lm nx ssse3 syscall",
    },
    Model {
        name: "Opteron_G2",
        vendor: AMD,
        text: "AMD Opteron 22xx (Gen 2 Class Opteron)",
        signature: (15, 6, 1),
        like: "Opteron_G1",
        features: "cx16 lahf-lm svm",
    },
    Model {
        name: "Penryn",
        vendor: INTEL,
        text: "Intel Core 2 Duo P9xxx (Penryn Class Core 2)",
        signature: (6, 23, 3),
        like: "Conroe",
        features: "cx16 sse4.1",
    },
    Model {
        name: "core2duo",
        vendor: INTEL,
        text: "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz",
        signature: (6, 15, 11),
        like: "Conroe",
        features: "cx16 monitor ss",
    },
    Model {
        name: "Westmere",
        vendor: INTEL,
        text: "Westmere E56xx/L56xx/X56xx (Nehalem-C)",
        signature: (6, 44, 1),
        like: "Nehalem",
        features: "aes arat pclmulqdq",
    },
    Model {
        name: "Opteron_G3",
        vendor: AMD,
        text: "AMD Opteron 23xx (Gen 3 Class Opteron)",
        signature: (16, 2, 3),
        like: "Opteron_G2",
        features: "abm misalignsse monitor popcnt rdtscp sse4a",
    },
    Model {
        name: "phenom",
        vendor: AMD,
        text: "AMD Phenom(tm) 9550 Quad-Core Processor",
        signature: (16, 2, 3),
        like: "Opteron_G2",
        features: "abm fxsr-opt mmxext monitor pdpe1gb popcnt rdtscp sse4a",
    },
    Model {
        name: "SandyBridge",
        vendor: INTEL,
        text: "Intel Xeon E312xx (Sandy Bridge)",
        signature: (6, 42, 1),
        like: "Westmere",
        features: "avx rdtscp tsc-deadline x2apic xsave xsaveopt",
    },
    Model {
        name: "Opteron_G4",
        vendor: AMD,
        text: "AMD Opteron 62xx class CPU",
        signature: (21, 1, 2),
        like: "Nehalem",
        features: "3dnowprefetch abm aes avx fma4 misalignsse pclmulqdq pdpe1gb rdtscp sse4a svm \
                   xsave",
    },
    Model {
        name: "IvyBridge",
        vendor: INTEL,
        text: "Intel Xeon E3-12xx v2 (Ivy Bridge)",
        signature: (6, 58, 9),
        like: "SandyBridge",
        features: "erms f16c fsgsbase rdrand smep",
    },
    Model {
        name: "Opteron_G5",
        vendor: AMD,
        text: "AMD Opteron 63xx class CPU",
        signature: (21, 2, 0),
        like: "Opteron_G4",
        features: "f16c fma tbm",
    },
    Model {
        name: "Denverton",
        vendor: INTEL,
        text: "Intel Atom Processor (Denverton)",
        signature: (6, 95, 1),
        like: "Westmere",
        features: "3dnowprefetch arch-capabilities clflushopt erms fsgsbase monitor movbe pdpe1gb \
                   rdrand rdseed rdtscp sha-ni smap smep spec-ctrl ssbd tsc-deadline x2apic \
                   xgetbv1 xsave xsavec xsaveopt",
    },
    Model {
        name: "Broadwell",
        vendor: INTEL,
        text: "Intel Core Processor (Broadwell)",
        signature: (6, 61, 2),
        like: "IvyBridge",
        features: "3dnowprefetch abm adx avx2 bmi1 bmi2 fma hle invpcid movbe pcid rdseed rtm \
                   smap",
    },
    Model {
        name: "KnightsMill",
        vendor: INTEL,
        text: "Intel Xeon Phi Processor (Knights Mill)",
        signature: (6, 133, 0),
        like: "IvyBridge",
        features: "3dnowprefetch abm adx avx2 avx512-vpopcntdq avx512cd avx512f bmi1 bmi2 fma \
                   movbe pdpe1gb rdseed ss",
    },
    Model {
        name: "Skylake-Client",
        vendor: INTEL,
        text: "Intel Core Processor (Skylake)",
        signature: (6, 94, 3),
        like: "Broadwell",
        features: "xgetbv1 xsavec",
    },
    Model {
        name: "Snowridge",
        vendor: INTEL,
        text: "Intel Atom Processor (SnowRidge)",
        signature: (6, 134, 1),
        like: "Denverton",
        features: "clwb gfni movdir64b movdiri umip",
    },
    Model {
        name: "Dhyana",
        vendor: "HygonGenuine",
        text: "Hygon Dhyana Processor",
        signature: (24, 0, 1),
        like: "Nehalem",
        features: "3dnowprefetch abm adx arat avx avx2 bmi1 bmi2 clflushopt cr8legacy f16c fma \
                   fsgsbase fxsr-opt ibpb misalignsse mmxext monitor movbe osvw pdpe1gb rdrand \
                   rdseed rdtscp smap smep sse4a svm topoext xgetbv1 xsave xsavec xsaveopt",
    },
    Model {
        name: "YongFeng",
        vendor: "CentaurHauls",
        text: "Zhaoxin YongFeng Processor",
        signature: (7, 11, 3),
        like: "Nehalem",
        features: "3dnowprefetch abm adx aes arch-capabilities avx avx2 bmi1 bmi2 f16c fma \
                   fsgsbase invpcid invtsc monitor movbe pcid pclmulqdq pdpe1gb pku rdpid rdrand \
                   rdseed rdtscp sha-ni smap smep spec-ctrl ss tsc-deadline umip x2apic xsave \
                   xsaveopt",
    },
    Model {
        name: "SierraForest",
        vendor: INTEL,
        text: "Intel Xeon Processor (SierraForest)",
        signature: (6, 175, 0),
        like: "IvyBridge",
        features: "3dnowprefetch abm adx arch-capabilities avx-vnni avx2 bmi1 bmi2 clflushopt \
                   clwb fma fsrm gfni invpcid movbe pcid pdpe1gb pku rdpid rdseed serialize \
                   sha-ni smap spec-ctrl ssbd umip vaes vpclmulqdq wbnoinvd xgetbv1 xsavec xsaves",
    },
    Model {
        name: "ClearwaterForest",
        vendor: INTEL,
        text: "Intel Xeon Processor (ClearwaterForest)",
        signature: (6, 221, 0),
        like: "SierraForest",
        features: "movdir64b movdiri sha512 ss tsc-adjust",
    },
    Model {
        name: "GraniteRapids",
        vendor: INTEL,
        text: "Intel Xeon Processor (GraniteRapids)",
        signature: (6, 173, 0),
        like: "SierraForest",
        features: "avx512-bf16 avx512-fp16 avx512-vpopcntdq avx512bitalg avx512bw avx512cd \
                   avx512dq avx512f avx512ifma avx512vbmi avx512vbmi2 avx512vl avx512vnni hle \
                   la57 rtm",
    },
];
