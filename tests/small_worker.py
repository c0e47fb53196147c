"""A decoder process with less memory than one large frame takes."""

from gcf.extract.decoding import worker

worker.MEMORY_LIMIT = 200 << 20
main = worker.main
