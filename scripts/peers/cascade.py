"""The peer: faster-whisper, llama.cpp and Piper on onnxruntime, joined as a fair user would join them.

Everything is loaded and warm before the first question; the system prompt is in llama.cpp's cache; tokens stream, and each
sentence is spoken by a thread of its own as soon as it is written. Answers the same lines as `antiphon bench --lines`.
"""

import argparse
import json
import queue
import re
import sys
import threading
import time
import wave

import numpy as np
import onnxruntime
from faster_whisper import WhisperModel
from llama_cpp import Llama
from piper import PiperVoice

# Where a sentence ends inside a growing text.
SENTENCE = re.compile(r"[.!?][\"')]*\s")
SAMPLING = {"temperature": 0.3, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.05}
MAX_ANSWER = 256


def ms(since: float) -> float:
    return (time.perf_counter() - since) * 1000


def read_wav(path: str) -> np.ndarray:
    """A sound file as 16 kHz mono."""
    with wave.open(path, "rb") as f:
        assert f.getsampwidth() == 2, f"{path}: give 16-bit wav files"
        pcm = np.frombuffer(f.readframes(f.getnframes()), np.int16).reshape(-1, f.getnchannels())
        rate = f.getframerate()
    mono = pcm.astype(np.float32).mean(axis=1) / 32768
    n = len(mono) * 16000 // rate
    # A moving average before the resampling, against aliases; outside of what is timed.
    width = max(1, rate // 16000)
    mono = np.convolve(mono, np.ones(width, np.float32) / width, "same")
    return np.interp(np.arange(n) * rate / 16000, np.arange(len(mono)), mono).astype(np.float32)


class Cascade:
    def __init__(self, about: dict, whisper_dir: str):
        threads = about["threads"]
        self.whisper = WhisperModel(whisper_dir, device="cpu", compute_type="int8", cpu_threads=threads)
        self.llm = Llama(
            about["llm"], n_ctx=4096, n_threads=threads, n_threads_batch=threads, verbose=False, seed=0
        )
        self.system = about["system_prompt"]
        self.voice = PiperVoice.load(about["voice"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.voice.session = onnxruntime.InferenceSession(
            about["voice"], sess_options=options, providers=["CPUExecutionProvider"]
        )
        self.beginning = self.ids(self.system and f"<|im_start|>system\n{self.system}<|im_end|>\n")
        # Everything once.
        self.hear(np.zeros(16000, np.float32))
        self.think("Hello.", 4)
        self.speak("The quick brown fox jumps over the lazy dog.")
        for _ in self.stream("Hello."):
            pass

    def ids(self, text: str) -> list:
        return self.llm.tokenize(text.encode(), add_bos=False, special=True)

    def question_ids(self, text: str) -> list:
        return self.ids(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")

    def transcribe(self, pcm: np.ndarray) -> str:
        # The quickest honest settings: greedy, no times, the language known, the 30 s as the model wants them.
        segments, _ = self.whisper.transcribe(
            pcm, language="en", beam_size=1, best_of=1, temperature=0.0, without_timestamps=True,
            condition_on_previous_text=False, vad_filter=False,
        )
        return " ".join(s.text.strip() for s in segments)

    def hear(self, pcm: np.ndarray) -> dict:
        start = time.perf_counter()
        text = self.transcribe(pcm)
        return {"ms": ms(start), "text": text}

    def think(self, text: str, tokens: int) -> dict:
        """The model alone: the question's tokens at once behind the cached system prompt, then one by one, greedily."""
        llm = self.llm
        llm.reset()
        llm.eval(self.beginning)
        ids = self.question_ids(text)
        start = time.perf_counter()
        llm.eval(ids)
        prefill = ms(start)
        start, made = time.perf_counter(), 0
        written = []
        while made < tokens:
            token = llm.sample(temp=0.0)
            if token == llm.token_eos():
                break
            written.append(token)
            llm.eval([token])
            made += 1
        decode = ms(start)
        text = llm.detokenize(written).decode(errors="replace")
        return {"prefill_ms": prefill, "prefill_tokens": len(ids), "decode_ms": decode, "decode_tokens": made, "text": text}

    def stream(self, text: str):
        """The answer, piece by piece. llama.cpp keeps what it has of the conversation's beginning in its cache."""
        ids = self.beginning + self.question_ids(text)
        made = []
        said = b""
        for token in self.llm.generate(ids, temp=SAMPLING["temperature"], top_k=40, top_p=0.9, min_p=0.0,
                                       repeat_penalty=SAMPLING["repeat_penalty"]):
            if token == self.llm.token_eos() or len(made) >= MAX_ANSWER:
                return
            made.append(token)
            whole = self.llm.detokenize(made)
            piece, said = whole[len(said):], whole
            yield piece.decode(errors="ignore")

    def speak(self, text: str) -> dict:
        start = time.perf_counter()
        seconds = sum(len(c.audio_int16_array) / c.sample_rate for c in self.voice.synthesize(text))
        return {"ms": ms(start), "seconds": seconds}

    def turn(self, pcm: np.ndarray) -> dict:
        """From the decision that the turn is over to the first sound, and to the last."""
        sentences: queue.Queue = queue.Queue()
        first = []
        seconds = [0.0]
        start = time.perf_counter()

        def mouth():
            while (sentence := sentences.get()) is not None:
                for chunk in self.voice.synthesize(sentence):
                    if not first:
                        first.append(ms(start))
                    seconds[0] += len(chunk.audio_int16_array) / chunk.sample_rate

        thread = threading.Thread(target=mouth)
        thread.start()
        heard = self.transcribe(pcm)
        heard_ms = ms(start)
        answer, rest, first_token = "", "", None
        for piece in self.stream(heard):
            first_token = first_token or ms(start)
            answer += piece
            rest += piece
            while end := SENTENCE.search(rest):
                sentences.put(rest[: end.end()])
                rest = rest[end.end():]
        if rest.strip():
            sentences.put(rest)
        sentences.put(None)
        thread.join()
        return {
            "first_audio_ms": first[0] if first else None, "hear_ms": heard_ms, "first_token_ms": first_token,
            "all_ms": ms(start), "speech_seconds": seconds[0], "heard": heard, "answer": answer,
        }


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--about", required=True, help="what `antiphon bench --lines` answers to {\"do\":\"about\"}")
    args.add_argument("--whisper", required=True, help="a folder with the CTranslate2 model")
    args = args.parse_args()
    peer = Cascade(json.loads(args.about), args.whisper)
    sounds = {}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "question" in job and job["question"] not in sounds:
            sounds[job["question"]] = read_wav(job["question"])
        match job["do"]:
            case "turn":
                answer = peer.turn(sounds[job["question"]])
            case "hear":
                answer = peer.hear(sounds[job["question"]])
            case "think":
                answer = peer.think(job["text"], job["tokens"])
            case "speak":
                answer = peer.speak(job["text"])
            case other:
                answer = {"error": f"no such thing to do: {other}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
