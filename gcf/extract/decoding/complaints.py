"""What FFmpeg complains about as an error, though the frames come out the same."""

import re
from collections.abc import Sequence

# Types of SEI messages that may touch pixels (ITU-T H.264, annex D), and those alone: recovery point, film grain,
# display orientation, alternative transfer characteristics.
_SEEN = "(6|19|47|147)"
HARMLESS = {
    "h264": (
        rf"SEI type (?!{_SEEN} )\d+ size \d+ truncated at -?\d+",
        "Picture timing SEI payload too large",
        "Error processing (a|the) picture timing SEI",
        r"non-existing SPS \d+ referenced in buffering period",
    ),
    "hevc": (r"num_sps_ids_minus1 -?\d+ invalid", r"active_parameter_set_id -?\d+ invalid"),
}


def is_harmless(log: Sequence) -> bool:
    """Whether a line of FFmpeg's log (level, name, message) is about no pixel.

    >>> is_harmless((16, "h264", "SEI type 5 size 829 truncated at 665"))
    True
    >>> is_harmless((16, "h264", "non-existing PPS 3 referenced"))
    False
    """
    _, name, message = log
    return any(re.fullmatch(pattern, message.strip()) for pattern in HARMLESS.get(name, ()))
