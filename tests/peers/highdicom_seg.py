"""A SEG as the benchmarks have highdicom make it; imported by them."""

import highdicom
from highdicom.sr.coding import CodedConcept

DEVICE = {"manufacturer": "Peers", "device_serial_number": "1"}


def segmentation(datasets, array, name, organs):
    """Of labels from 1 on, or of a mask for each of `organs`: (label, code, meaning)."""
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=name, version="1.0.0", family=CodedConcept("123110", "DCM", "Artificial Intelligence")
    )
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=CodedConcept("123037004", "SCT", "Anatomical Structure"),
            segmented_property_type=CodedConcept(code, "SCT", meaning),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_id=label,
            tracking_uid=highdicom.UID(),
        )
        for number, (label, code, meaning) in enumerate(organs, 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=datasets,
        pixel_array=array,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer_model_name="Peers",
        software_versions="1",
        omit_empty_frames=True,
        **DEVICE,
    )
