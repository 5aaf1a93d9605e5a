"""Decodes the JPEG 2000 slices of a study with pydicom and pylibjpeg-openjpeg, on some processes.

    bench_decode.py STUDY PROCESSES ROUNDS

Reads every file, headers and pixels, into Hounsfield units in memory that the processes share, as who needs a volume does.
The processes, and what they import, are there before the clock starts. Prints JSON: seconds of each round, the sum of all
values, versions. Exit status 3 when a package is missing.
"""

import json
import pathlib
import sys
import time
from multiprocessing import get_context, shared_memory

try:
    import numpy as np
    import openjpeg
    import pydicom
    from pydicom.pixels import pixel_array
except ImportError as error:
    print(f"{error.name} is not installed in {sys.executable}", file=sys.stderr)
    sys.exit(3)

volume = None


def share(name, shape):
    """In each process: the volume that all write into."""
    global volume
    memory = shared_memory.SharedMemory(name)
    volume = (memory, np.ndarray(shape, np.float32, memory.buf))


def decode(job):
    index, path = job
    dataset = pydicom.dcmread(path)
    out = volume[1][index]
    out[:] = pixel_array(dataset, decoding_plugin="pylibjpeg")
    out *= float(dataset.RescaleSlope)
    out += float(dataset.RescaleIntercept)


def main():
    folder, processes, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    files = sorted(folder.iterdir())
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    shape = (len(files), first.Rows, first.Columns)
    memory = shared_memory.SharedMemory(create=True, size=int(np.prod(shape)) * 4)
    try:
        seconds = []
        with get_context("fork").Pool(processes, share, (memory.name, shape)) as pool:
            jobs = list(enumerate(map(str, files)))
            pool.map(decode, jobs[: 4 * processes])
            for _ in range(rounds):
                started = time.perf_counter()
                pool.map(decode, jobs, chunksize=4)
                seconds.append(time.perf_counter() - started)
        total = float(np.ndarray(shape, np.float32, memory.buf).sum(dtype="f8"))
    finally:
        memory.close()
        memory.unlink()
    packages = f"pydicom {pydicom.__version__}, pylibjpeg-openjpeg {openjpeg.__version__}"
    print(json.dumps({"seconds": seconds, "sum": total, "packages": packages}))


main()
