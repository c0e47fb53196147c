"""A decoder process to which ten decoded pixels a byte are too many."""

from gcf.extract.decoding import video, worker

video.PIXELS_A_BYTE = 10
main = worker.main
