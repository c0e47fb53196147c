"""`gcf localize`: when and where the classes of videos happen, as a trained head sees it."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from gcf._version import __version__
from gcf.data.atomic import atomic_file
from gcf.data.schema import VideoFeatures, id_key
from gcf.data.segments import Segment, read_segments
from gcf.errors import RefusedError, UsageError, VideoError
from gcf.explain.contact_sheet import write_sheet
from gcf.explain.described import Source, open_source
from gcf.explain.evidence import read_video
from gcf.explain.gradcam import passing_clips
from gcf.explain.intervals import IntervalSettings, propose_intervals
from gcf.explain.localization_files import write_localization, write_tables
from gcf.explain.maps import video_heat
from gcf.explain.overlay_video import write_overlay
from gcf.explain.reading import Localization
from gcf.extract.progress import Progress
