"""A decoder process that says what cannot be meant, as names of videos ask; "slow frames" takes its time instead."""

import time

from gcf.extract.decoding import jobs as decoding
from gcf.extract.decoding import messages, worker

send, names = messages.send, []
plain = worker.decode_each


def lying(outbox, head, payload=b""):
    name = names[-1] if names else ""
    kind = head.get("kind")
    if "shape" in name and kind == "clip":
        head = head | {"shape": [1, *head["shape"][2:], 1]}
    if "info" in name and kind == "done":
        head = head | {"info": head["info"] | {"fps": "x"}}
    if "error" in name and kind == "clip":
        head = {"kind": "failed", "error": 7}
    if "early" in name and kind == "clip":
        return
    if "list" in name and kind == "clip":
        head = [1, 2]
    if "order" in name and kind == "clip":
        head = {key: value for key, value in head.items() if key != "job"}
    send(outbox, head, payload)


class SlowVideo(decoding.Video):
    def __iter__(self):
        for frame in super().__iter__():
            time.sleep(0.4)
            yield frame


def decode_each(path, video_id, jobs, **options):
    names.append(video_id)
    decoding.Video = SlowVideo if "slow frames" in video_id else decoding.Video
    return plain(path, video_id, jobs, **options)


worker.decode_each = decode_each
messages.send = lying
main = worker.main
