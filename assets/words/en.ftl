# The top of the window, and its cards
new-conversation = New conversation
side-panel = Show or hide the panels
history-panel = Show or hide your conversations
card-latency = Latency
card-models = Models
card-voices = Voices
card-sound = Sound
card-settings = Settings
settings-not-kept = Your settings could not be kept

# Above the conversation
retry = Try again
dismiss = Dismiss
stopped-what = The conversation has stopped unexpectedly
stopped-remedy = Close the window and start Antiphon again; its log says what happened.
degraded-remedy = Looking for it; meanwhile you can type.

# Typing and talking
talk-type = Type a message
talk-send = Send
talk-stop = Stop the answer
talk-talk = Talk
talk-hands-free = Hands-free
talk-mute = Mute the microphone
talk-unmute = Unmute the microphone
state-gone = Stopped
state-idle = Not loaded
state-loading = Loading
state-listening = Listening
state-ready = Ready
state-capturing = Hearing you
state-maybe-done = Go on, or wait
state-thinking = Thinking
state-speaking = Speaking
state-ducked = Speaking softly
state-degraded = Sound device lost
state-faulted = Stopped by a fault
state-muted = Muted
level-microphone = Microphone level
level-loudspeaker = Loudspeaker level
talk-hint-latched = Press when you have finished
talk-hint = Hold while you speak, or tap to start and tap again to end (space bar)
talk-stop-short = ■ Stop
talk-stop-hint = Stop the answer (Escape)

# The conversation
get-models = Get the models
not-heard = The rest was not heard
answer-coming = An answer is on its way
welcome-idle = No engine is loaded
welcome-idle-text = Choose one under Settings.
welcome-loading = One moment
welcome-loading-text = The models are being loaded.
welcome-fault = Something went wrong
welcome-fault-text = See above for what to do.
welcome = Say something
welcome-text = Just speak, hold the button below or the space bar, or type.
answered-in = answered in { $seconds } s
loading = Loading: { $what }
welcome-pulling = You can talk already; { $title } is still being fetched.

# What can be done with a turn
replay-question = Hear your words again
replay-answer = Hear the answer again
stop-replay = Stop the replay
copy-question = Copy your words
copy-answer = Copy the answer
ask-again = Ask this again
of-turn = { $what }, turn { $turn }

# Past conversations
history-search = Search conversations
history-delete-all = Delete all…
history-delete-all-now = Delete all for good
history-keep = Keep them
history-title = Conversations
history-empty = What you say is kept here, on this machine only. Settings can change that.
history-nothing = Nothing was found.
history-export = Export this conversation
history-wordless = Without words
history-turns = { $n ->
    [one] { $n } turn
   *[other] { $n } turns
 }
history-delete = Delete { $title }
history-delete-hint = Delete this conversation
form-markdown = Markdown
form-json = JSON
form-wav = Stereo wav

# Sizes and times
time-seconds = { $s } s
time-minutes = { $m } min { $s } s
time-hours = { $h } h { $m } min

# Sound devices
microphone = Microphone
loudspeaker = Loudspeaker
volume = Volume
system-default = System default
not-connected = Not connected
device-now = now: { $name }
device-none = none is open

# Settings
persona = Persona
half-duplex = Microphone off while it speaks
headphones = I wear headphones
seed = Seed
language-model = Language model
eagerness = When you pause
eagerness-patient = Patient
eagerness-balanced = Balanced
eagerness-eager = Eager
keep = Kept on this machine
keep-nothing = Nothing
keep-words = Words
keep-sound = Words and sound
theme = Theme
theme-system = System
theme-light = Light
theme-dark = Dark
size = Size
engine = Engine
engine-starter = Starter
engine-starter-hint = Three small models; runs on any laptop
engine-omni = Omni
engine-omni-hint = One large model that hears and speaks itself; wants a GPU
llm-own = The starter's own
llm-hint = A model's id from the list of models, or the path of a GGUF file
persona-hint = Who the assistant is, in your words
seed-hint = The same seed and the same words give the same answers
interface = Language of the window
interface-system = As the system

# Models
cancel = Cancel
models-import = Take from a folder…
models-get-all = Get what is missing
models-import-hint = For machines without network
models-no-catalog = No catalog yet.
pull-cancelled = Stopped. What has arrived is kept.
pull-done = Everything has arrived.
model-ready = ready
model-absent = not here
model-broken = damaged
engine-ready = Ready: { $name }
pull-fetching = Fetching { $title }
pull-checking = Checking { $title }
pull-failed = { $title }: { $why }
pull-paused = { $title }: paused
pull-of = { $done } of { $total }
pull-left = { $time } left
model-get = Get
model-get-one = Get { $title }
model-paused = paused
pull-pause = Pause
pull-resume = Go on
pull-resume-one = Go on with { $title }

# Voices
voice-add = Add from a file…
voice-record = Record now
voice-record-stop = Stop recording
voice-read-this = Read this aloud, as you would tell it to a friend:
voice-text = This morning I walked along the river. The water was quiet, a grey heron stood near the bridge, and somewhere a child was laughing. What a good day to begin something new!
voice-agreed = It is my voice, or its owner agreed
voice-name = Name of the voice
voice-keep = Keep this voice
voice-put-aside = Put aside
voice-listen = Listen
voice-stop = Stop listening
voice-own = The engine's own voice
voice-beginning = Beginning of the part used
voice-end = End of the part used
voice-no-cloning = This engine speaks in a voice of its own.
voice-who-clones = MiniCPM-o 2.6 (engine Omni, in Settings) can speak in a voice from a recording. Voices are kept here until then.
voice-how = Add 5 to 15 seconds of one person speaking, or drop a sound file onto the window.
voice-reading = Reading { $file } …
voice-figures = { $start } to { $end } s of { $all } s: { $grade }
grade-ok = good
grade-usable = usable
grade-not = not usable
voice-waveform = Waveform of { $file }
voice-new-name = New name
voice-rename-now = Rename
voice-leave = Leave
voice-delete-ask = Delete it for good?
voice-delete-now = Delete
voice-delete-now-one = Delete { $name } for good
voice-rename = Rename…
voice-rename-one = Rename { $name }
voice-delete = Delete…
voice-delete-one = Delete { $name }
voice-listen-to = Listen to { $name }
voice-consent = Use only voices whose owners agree, and say that the speech is made by a machine.

# Latency
copy-json = Copy turn as JSON
save-trace = Save trace…
first-audio-title = Time to first audio
first-audio-none = Measured with your first turn
first-audio-unit = ms after your last word
milliseconds = milliseconds
first-audio = first audio
first-audio-hint = From your last word to the first sound of the answer: the sum of what you wait for.
barge-in-stop = barge-in stop
barge-in-stop-hint = From when it was certain that you interrupt to the last sound of the answer.
rtf-hint = Time to make the answer's sound, as a part of the time it plays: above 1 it stalls
tokens-hint = What the language model wrote in a second of the last turn
memory-hint = What this program has in memory, models included
stalls-hint = Times the answer's sound was not made in time
xruns-hint = Times the sound system reported a glitch
queued-hint = Sound that waits to be played
save-trace-hint = For ui.perfetto.dev or chrome://tracing
tokens = tokens/s
memory = memory
stalls = stalls
queued = queued
rtf = RTF
xruns = xruns
column-last = last
column-p50 = p50
column-p95 = p95
of-it-computing = { $ms } ms of it computing
lost-capture = { $n } samples of the microphone were lost
waterfall = Waterfall of the last turn
waterfall-hint = 0 is your last word; the upright line is the first sound of the answer; the dashed line is the target, 0.8 s

# The stages of a turn
stage-capture = capture
stage-capture-why = The microphone's sound on its way to the program. Slow with large buffers of the sound system, and with Bluetooth.
stage-echo = echo
stage-echo-why = Takes the assistant's own voice out of the microphone. Takes the same time always, unless the processor is busy.
stage-vad = vad
stage-vad-why = Tells speech from silence, 10 ms at a time. Slow only on a busy processor.
stage-end-of-turn = end of turn
stage-end-of-turn-why = The wait after your last word, until it is sure that you have finished. Settings, When you pause, makes it shorter; the talk button needs none.
stage-audio-encode = audio encode
stage-audio-encode-why = Turns your speech into what the model understands, while you speak. Slow with long turns and without a GPU.
stage-stt = stt
stage-stt-why = Writes down what you said. Most of it is done while you speak; what is left grows with the length of the turn.
stage-llm-prefill = llm prefill
stage-llm-prefill-why = The language model reads your words. Grows with what was said before, and at once when the persona is long.
stage-llm-decode = llm decode
stage-llm-decode-why = The language model writes the answer, one token at a time. Slow with large models, little memory bandwidth, other programs.
stage-tts-prefill = tts prefill
stage-tts-prefill-why = The voice reads the words it is to speak. Grows with the length of a text chunk.
stage-tts-decode = tts decode
stage-tts-decode-why = The voice makes the sound's tokens. Must be faster than speech, else the answer stalls.
stage-vocoder = vocoder
stage-vocoder-why = Turns tokens into sound. Slow on a busy processor.
stage-seam = seam
stage-seam-why = Joins the pieces of sound without a click. Never slow.
stage-playback-buffer = playback buffer
stage-playback-buffer-why = The sound kept back before the answer begins, so that it does not stall. Grows when the engine is slow or uneven.
stage-device = device
stage-device-why = From the program to the loudspeaker. Slow with large buffers of the sound system, and with Bluetooth.

# The first steps
first-title = Welcome to Antiphon
first-private = You speak, and it answers in a voice. It thinks on this machine: nothing you say or hear is sent anywhere. The network is used for one thing, to fetch models.
first-machine = This machine
first-looking = Looking at it…
first-no-gpu = { $memory } of memory, and no graphics card that helps: the starter models suit it.
first-gpu = { $gpu } with { $memory }: it can hold MiniCPM-o 2.6 in { $way } ({ $size }).
first-gpu-small = { $gpu } with { $memory }: too small for MiniCPM-o 2.6; the starter models suit it.
first-gpu-not-built = { $gpu } with { $memory }: this build of Antiphon computes on the processor alone, so the starter models suit it. A build for graphics cards is made with make cuda.
first-way-fits = { $name }: { $size }, fits
first-way-large = { $name }: { $size }, too large
first-disk = { $size } are free on the disk.
first-models = The models
first-starter = The starter models hear, think and speak: { $size }, fetched once and checked. You can talk as soon as they are here.
first-starter-here = The starter models are here.
first-use-starter = Talk to the starter meanwhile
first-omni = { $title } hears, thinks and speaks in one model, in a voice you give it: { $size }. You can talk to the starter while it is fetched.
first-get-omni = Get the large model too
first-sound = Sound
first-say = Say something: the bar should move.
first-hears = The microphone hears you.
first-no-microphone = No microphone is open: plug one in, or choose one under Sound.
first-no-loudspeaker = No loudspeaker is open.
first-level = Level of your microphone
first-chime = Play three notes
first-chime-stop = Stop the notes
first-chime-text = Can you hear them?
terms-title = Licence: { $licence }
terms-agree = I have read this and agree: get it
terms-leave = Not now
