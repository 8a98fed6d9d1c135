//! What the machine says it is: SMBIOS fields from the plan.

use plan::{Plan, Property};
use smbios::{Firmware, Machine, Processors, Product};

/// Who the machine says made it. Guests look at it to see what they run on.
const MAKER: &str = "QEMU";

/// The fields, with those of `-smbios` over the defaults. RAM and the processors' family are left
/// to the board.
pub fn machine(plan: &Plan) -> Machine {
    let smp = &plan.smp;
    let cores = smp.dies * smp.clusters * smp.modules * smp.cores;
    let short = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let maker = || Product {
        manufacturer: MAKER.to_owned(),
        version: plan.machine.clone(),
        ..Product::default()
    };
    let mut machine = Machine {
        system: Product { product: format!("{MAKER} Virtual Machine"), ..maker() },
        chassis: maker(),
        uuid: plan.uuid.unwrap_or_default(),
        processors: Processors {
            sockets: short(smp.sockets),
            cores: short(cores),
            threads: short(cores * smp.threads),
            family: 0,
        },
        ..Machine::default()
    };
    for given in &plan.smbios {
        for field in &given.fields {
            set(&mut machine, given.kind, field);
        }
    }
    machine
}

/// Sets a field; the plan knows names and values to be right.
fn set(machine: &mut Machine, kind: u8, Property { name, value }: &Property) {
    match (kind, name.as_str()) {
        (0, name) => firmware(machine.firmware.get_or_insert_with(Firmware::default), name, value),
        (1, "uuid") => {
            let digits: String = value.split('-').collect();
            let number = u128::from_str_radix(&digits, 16).unwrap_or_default();
            machine.uuid = number.to_be_bytes();
        }
        (1, name) => product(&mut machine.system, name, value),
        (2, name) => product(machine.board.get_or_insert_with(Product::default), name, value),
        (3, name) => product(&mut machine.chassis, name, value),
        _ => machine.oem_strings.push(value.clone()),
    }
}

fn firmware(firmware: &mut Firmware, name: &str, value: &str) {
    match name {
        "vendor" => value.clone_into(&mut firmware.vendor),
        "version" => value.clone_into(&mut firmware.version),
        "date" => value.clone_into(&mut firmware.date),
        "uefi" => firmware.uefi = options::parse_bool(value).unwrap_or(false),
        _ => {
            let numbers = value.split('.').map(|n| n.parse().unwrap_or(0));
            firmware.release.iter_mut().zip(numbers).for_each(|(field, n)| *field = n);
        }
    }
}

fn product(product: &mut Product, name: &str, value: &str) {
    let field = match name {
        "manufacturer" => &mut product.manufacturer,
        "product" => &mut product.product,
        "version" => &mut product.version,
        "serial" => &mut product.serial,
        "asset" => &mut product.asset,
        "sku" => &mut product.sku,
        _ => &mut product.family,
    };
    value.clone_into(field);
}
