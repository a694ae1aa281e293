//! `antiphon devices`: the microphones and loudspeakers there are. Runs on the main thread.

use super::doctor::SoundDevices;
use super::{Failure, Outcome, print};
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
        print(&format!("{}\n", json!({ "inputs": rows(&list.inputs), "outputs": rows(&list.outputs) })))?;
    } else {
        print(&(kind("Microphones", &list.inputs) + &kind("Loudspeakers", &list.outputs)))?;
    }
    if list.inputs.is_empty() && list.outputs.is_empty() {
        return Err(Failure::no_device("there is no sound device: connect one, or start the system's sound service"));
    }
    Ok(())
}

/// The names of the devices that answer, for `doctor`.
pub fn names() -> SoundDevices {
    match audio::list() {
        Ok(list) => SoundDevices { microphones: answering(&list.inputs), loudspeakers: answering(&list.outputs) },
        Err(error) => SoundDevices { microphones: Err(error.to_string()), loudspeakers: Err(error.to_string()) },
    }
}

/// ALSA lists the way to a sound service whether or not that runs; a device that does not tell its rate cannot be opened.
fn answering(devices: &[DeviceInfo]) -> Result<Vec<String>, String> {
    let (answering, mute): (Vec<_>, Vec<_>) = devices.iter().partition(|d| d.rate.is_some());
    let names = |devices: Vec<&DeviceInfo>| devices.into_iter().map(|d| d.name.clone()).collect::<Vec<_>>();
    if answering.is_empty() && !mute.is_empty() {
        return Err(format!("{}: listed, but does not answer", names(mute).join("; ")));
    }
    Ok(names(answering))
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

fn kind(title: &str, devices: &[DeviceInfo]) -> String {
    let mut text = format!("{title}\n");
    if devices.is_empty() {
        text.push_str("  none\n");
    }
    for device in devices {
        let mark = if device.is_default { '*' } else { ' ' };
        let rate = device.rate.map_or_else(|| "does not answer".to_owned(), |r| format!("{r} Hz"));
        let (name, buffer, id) = (&device.name, device.buffer_ms, &device.id);
        text.push_str(&format!("{mark} {name:<40} {rate}, buffer {buffer:.0} ms, id {id}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::DeviceId;

    #[test]
    fn a_device_that_does_not_answer_is_none_to_talk_with() {
        let device = |name: &str, rate| DeviceInfo {
            id: DeviceId(name.into()),
            name: name.into(),
            is_default: false,
            rate,
            channels: None,
            buffer_ms: 10,
        };
        let (mute, fine) = (device("Server", None), device("Card", Some(48_000)));
        assert_eq!(answering(&[]), Ok(Vec::new()));
        assert_eq!(answering(&[mute.clone(), fine]), Ok(vec!["Card".to_owned()]));
        assert_eq!(answering(std::slice::from_ref(&mute)), Err("Server: listed, but does not answer".to_owned()));
        assert!(kind("Microphones", &[mute]).contains("does not answer"));
    }
}
