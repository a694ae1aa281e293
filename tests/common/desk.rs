//! Simulated sound devices that can be plugged in, pulled out, frozen, refused and preferred: the system's sound service
//! as a session sees it.

use antiphon::audio::{
    AudioError, Card, CardChoice, CardSupply, DeviceId, DeviceInfo, DeviceList, Direction, StereoRecording, Teller,
    VirtualCard, VirtualCardHandle, Watching,
};
use std::sync::{Arc, Mutex, MutexGuard};

/// The desk; clones are one.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    tell: Option<Teller>,
    devices: Vec<Device>,
    open: Vec<(String, VirtualCardHandle)>,
    opened: usize,
}

#[derive(Clone)]
struct Device {
    id: String,
    direction: Direction,
    rate: u32,
    refuses: Option<AudioError>,
}

impl Desk {
    /// A desk with a microphone "mic" and a loudspeaker "speaker", both at 48 kHz.
    pub fn usual() -> Desk {
        let desk = Desk::default();
        desk.plug("mic", Direction::Input, 48_000);
        desk.plug("speaker", Direction::Output, 48_000);
        desk
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Connects a device, which becomes the default of its kind.
    pub fn plug(&self, id: &str, direction: Direction, rate: u32) {
        self.world().devices.insert(0, Device { id: id.into(), direction, rate, refuses: None });
        self.tell();
    }

    /// Connects a default device that cannot be opened.
    pub fn plug_refusing(&self, id: &str, direction: Direction, why: AudioError) {
        self.world().devices.insert(0, Device { id: id.into(), direction, rate: 48_000, refuses: Some(why) });
        self.tell();
    }

    /// Pulls it out: its stream says so.
    pub fn unplug(&self, id: &str) {
        let mut world = self.world();
        world.devices.retain(|d| d.id != id);
        world.open.iter().filter(|(open, _)| open == id).for_each(|(_, card)| card.unplug());
        drop(world);
        self.tell();
    }

    /// Pulls it out as PulseAudio does: its stream goes on and says nothing.
    pub fn unplug_silently(&self, id: &str) {
        self.world().devices.retain(|d| d.id != id);
        self.tell();
    }

    /// Opening it fails from now on (`None`: works again).
    pub fn refuse(&self, id: &str, why: Option<AudioError>) {
        self.world().devices.iter_mut().filter(|d| d.id == id).for_each(|d| d.refuses.clone_from(&why));
    }

    /// Makes it the default.
    pub fn prefer(&self, id: &str) {
        self.world().devices.sort_by_key(|d| d.id != id);
        self.tell();
    }

    /// Everything that is open stops without a word.
    pub fn freeze(&self) {
        self.world().open.iter().for_each(|(_, card)| card.freeze());
    }

    /// Speaks into the microphone that was opened last under this name.
    pub fn say(&self, id: &str, words: impl Fn(u32) -> Vec<f32>) {
        let world = self.world();
        let rate = world.devices.iter().find(|d| d.id == id).map(|d| d.rate).expect("the device is connected");
        let (_, card) = world.open.iter().rfind(|(open, _)| open == id).expect("the device is open");
        card.say(words(rate));
    }

    /// How often a device was opened.
    pub fn opened(&self) -> usize {
        self.world().opened
    }

    /// Ends everything, and gives what each opened device recorded, in the order of opening.
    pub fn stop(&self) -> Vec<(String, StereoRecording)> {
        let open = std::mem::take(&mut self.world().open);
        open.into_iter().map(|(id, card)| (id, card.stop())).collect()
    }

    fn list(&self) -> DeviceList {
        let world = self.world();
        let of = |direction| {
            let devices = world.devices.iter().filter(move |d| d.direction == direction).enumerate();
            let info = devices.map(|(i, d)| DeviceInfo {
                id: DeviceId(d.id.clone()),
                name: d.id.clone(),
                is_default: i == 0,
                rate: Some(d.rate),
                channels: Some(1),
                buffer_ms: 10,
            });
            info.collect()
        };
        DeviceList { inputs: of(Direction::Input), outputs: of(Direction::Output) }
    }

    fn tell(&self) {
        let list = self.list();
        let mut world = self.world();
        if let Some(tell) = &mut world.tell {
            tell(list);
        }
    }
}

impl CardSupply for Desk {
    fn open(&self, choice: &CardChoice) -> Result<Card, AudioError> {
        let (direction, wanted) = match choice.want_input {
            true => (Direction::Input, &choice.input),
            false => (Direction::Output, &choice.output),
        };
        let mut world = self.world();
        let mut devices = world.devices.iter().filter(|d| d.direction == direction);
        let device = match wanted {
            None => devices.next().cloned().ok_or(AudioError::NoDevice { direction })?,
            Some(id) => devices
                .find(|d| d.id == id.0)
                .cloned()
                .ok_or_else(|| AudioError::NotFound { direction, id: id.0.clone() })?,
        };
        if let Some(why) = device.refuses {
            return Err(why);
        }
        let (card, handle) = VirtualCard::start(device.rate)?;
        let (mut microphone, mut loudspeaker) = card.split();
        let id = Some(DeviceId(device.id.clone()));
        if let Some(end) = &mut microphone.capture {
            (end.id, end.name) = (id.clone(), device.id.clone());
        }
        if let Some(end) = &mut loudspeaker.playback {
            (end.id, end.name) = (id, device.id.clone());
        }
        world.open.push((device.id, handle));
        world.opened += 1;
        Ok(if direction == Direction::Input { microphone } else { loudspeaker })
    }

    fn watch(&self, tell: Teller) -> Result<Watching, AudioError> {
        self.world().tell = Some(tell);
        self.tell();
        Ok(Watching::default())
    }
}
