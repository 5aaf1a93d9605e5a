"""Compresses the frame of DICOM files by the encoders of others: libjxl and OpenJPH.

    compress.py JOBS_JSON

JOBS_JSON is a list:

    {"source": "/.../CT_small.dcm", "to": "/.../1.dcm",
     "by": "jpegxl",           or "jpegxl-lossy"; "jpegxl-jpeg", of a file that is a JPEG already; "htj2k"
     "transfer_syntax": "1.2.840.10008.1.2.4.110",
     "photometric": "XYB",     null: as it was
     "cut": false}             half of the compressed frame is left
"""

import io
import json
import pathlib
import sys

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import HTJ2KLossless


def main():
    for job in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        ds = pydicom.dcmread(job["source"])
        stream = ENCODERS[job["by"]](ds)
        if job["cut"]:
            stream = stream[: len(stream) // 2]
        ds.PixelData = encapsulate([stream])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        if ds.SamplesPerPixel > 1:
            ds.PlanarConfiguration = 0
        if job["photometric"]:
            ds.PhotometricInterpretation = job["photometric"]
        # pydicom writes no transfer syntax that it does not know: one as long takes its place.
        ds.file_meta.TransferSyntaxUID = HTJ2KLossless
        buffer = io.BytesIO()
        ds.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
        named, wanted = HTJ2KLossless.encode(), job["transfer_syntax"].encode()
        assert len(named) == len(wanted)
        pathlib.Path(job["to"]).write_bytes(buffer.getvalue().replace(named, wanted, 1))


def bits(ds):
    """What is stored, without the sign: JPEG XL has none."""
    samples = pixel_array(ds, raw=True)
    word = samples.dtype.str.replace("i", "u")
    return samples.view(word) & np.array((1 << ds.BitsStored) - 1, word)


def jpegxl(ds):
    return imagecodecs.jpegxl_encode(bits(ds), lossless=True, bitspersample=ds.BitsStored)


def jpegxl_lossy(ds):
    return imagecodecs.jpegxl_encode(bits(ds), lossless=False, distance=0.5, bitspersample=ds.BitsStored)


def jpegxl_jpeg(ds):
    return imagecodecs.jpegxl_encode_jpeg(next(generate_frames(ds.PixelData, number_of_frames=1)))


def htj2k(ds):
    return imagecodecs.htj2k_encode(pixel_array(ds, raw=True), reversible=True)


ENCODERS = {"jpegxl": jpegxl, "jpegxl-lossy": jpegxl_lossy, "jpegxl-jpeg": jpegxl_jpeg, "htj2k": htj2k}

main()
