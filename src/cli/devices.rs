//! `antiphon devices`: the microphones and loudspeakers there are. Runs on the main thread.

use super::{Failure, Outcome};
use crate::audio::{self, DeviceInfo};
use clap::Args;
use serde_json::json;

/// What `devices` can be told.
#[derive(Args, Clone, Debug)]
pub struct DevicesArgs {
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Lists the devices.
pub fn run(args: &DevicesArgs) -> Outcome {
    let list = audio::list().map_err(Failure::no_device)?;
    if args.json {
        let rows = |devices: &[DeviceInfo]| devices.iter().map(row).collect::<Vec<_>>();
        println!("{}", json!({ "inputs": rows(&list.inputs), "outputs": rows(&list.outputs) }));
    } else {
        print_kind("Microphones", &list.inputs);
        print_kind("Loudspeakers", &list.outputs);
    }
    if list.inputs.is_empty() && list.outputs.is_empty() {
        return Err(Failure::no_device("there is no sound device: connect one, or start the system's sound service"));
    }
    Ok(())
}

fn row(device: &DeviceInfo) -> serde_json::Value {
    json!({
        "id": device.id.0,
        "name": device.name,
        "default": device.is_default,
        "rate": device.rate,
        "channels": device.channels,
        "buffer_ms": device.buffer_ms,
    })
}

fn print_kind(title: &str, devices: &[DeviceInfo]) {
    println!("{title}");
    if devices.is_empty() {
        println!("  none");
    }
    for device in devices {
        let mark = if device.is_default { '*' } else { ' ' };
        let rate = device.rate.map_or_else(|| "any rate".to_owned(), |r| format!("{r} Hz"));
        println!("{mark} {:<40} {rate}, buffer {:.0} ms, id {}", device.name, device.buffer_ms, device.id);
    }
}
