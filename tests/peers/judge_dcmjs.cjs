// Judges what is written by dcmjs, with which viewers in browsers read DICOM.
//
//     node judge_dcmjs.cjs seg SEG SOURCE_FOLDER EXPECTED_JSON      as judge_seg.py
//     node judge_dcmjs.cjs sr SR SEG EXPECTED_JSON                  as judge_sr.py
//     node judge_dcmjs.cjs shown FOLDER SOURCE_FOLDER EXPECTED_JSON as judge_shown.py
//
// The SEG is laid over the slices of its source by dcmjs' adapter for Cornerstone. Passes with status 0; otherwise prints each fault and
// ends with status 1.

"use strict";

const fs = require("node:fs");
const path = require("node:path");
const dcmjs = require("dcmjs");

const { DicomMessage, DicomMetaDictionary } = dcmjs.data;
const { Normalizer } = dcmjs.normalizers;
dcmjs.log.setLevel("error");

const [what, first, second, expectedFile] = process.argv.slice(2);
const expected = JSON.parse(fs.readFileSync(expectedFile, "utf8"));
const faults = { seg, sr, shown }[what](first, second);
faults.forEach((fault) => console.log(`dcmjs: ${fault}`));
console.log(faults.length ? "not as expected" : `${what} as expected`);
process.exit(faults.length ? 1 : 0);

function bytes(file) {
  const read = fs.readFileSync(file);
  return read.buffer.slice(read.byteOffset, read.byteOffset + read.byteLength);
}

function dataset(file) {
  const { dict, meta } = DicomMessage.readFile(bytes(file));
  const { MediaStorageSOPInstanceUID: uid } = DicomMetaDictionary.naturalizeDataset(meta);
  const data = DicomMetaDictionary.naturalizeDataset(dict);
  return { ...data, SOPInstanceUID: data.SOPInstanceUID || uid, _meta: DicomMetaDictionary.namifyDataset(meta) };
}

function list(items) {
  return items === undefined ? [] : Array.isArray(items) ? items : [items];
}

/** Data sets of the source, ascending along the normal. */
function slices(folder) {
  const files = fs.readdirSync(folder).map((name) => path.join(folder, name));
  const read = files.filter((file) => fs.statSync(file).isFile()).map(dataset);
  const [a, b, c, d, e, f] = read[0].ImageOrientationPatient.map(Number);
  const normal = [b * f - c * e, c * d - a * f, a * e - b * d];
  const along = (slice) => slice.ImagePositionPatient.reduce((sum, value, i) => sum + value * normal[i], 0);
  return read.sort((left, right) => along(left) - along(right));
}

/** What an adapter asks of the images that a viewer has open; their IDs are their numbers. */
function provider(source) {
  return {
    get(module, id) {
      const slice = source[Number(id)];
      const orientation = slice.ImageOrientationPatient.map(Number);
      switch (module) {
        case "imagePlaneModule":
          return {
            rowCosines: orientation.slice(0, 3),
            columnCosines: orientation.slice(3),
            rows: slice.Rows,
            columns: slice.Columns,
          };
        case "generalSeriesModule":
          return { seriesInstanceUID: slice.SeriesInstanceUID };
        case "sopCommonModule":
          return { sopInstanceUID: slice.SOPInstanceUID };
        case "imagePixelModule":
          return { rows: slice.Rows, columns: slice.Columns };
        default:
          return slice;
      }
    },
  };
}

function seg(file, sourceFolder) {
  const source = slices(sourceFolder);
  const raw = bytes(path.join(path.dirname(expectedFile), expected.voxels));
  const labels = expected.type === "uint8" ? new Uint8Array(raw) : new Uint16Array(raw);
  const ids = source.map((_, index) => String(index));
  const read = dcmjs.adapters.Cornerstone.Segmentation.generateToolState(ids, bytes(file), provider(source));
  const held = read.segMetadata.data.filter(Boolean).map((s) => `${s.SegmentNumber} ${s.SegmentLabel}`);
  const wanted = expected.segments.map((s) => `${s.number} ${s.name}`);
  if (held.join() !== wanted.join()) {
    return [`the SEG holds ${held}, not ${wanted}`];
  }
  if (read.labelmapBufferArray.length !== 1) {
    return ["segments overlap"];
  }
  const found = new Uint16Array(read.labelmapBufferArray[0]);
  if (found.length !== labels.length) {
    return [`${found.length} voxels, not ${labels.length}`];
  }
  const numbers = new Map(expected.segments.map((s) => [s.value, s.number]));
  const wrong = found.reduce((sum, number, i) => sum + (number !== (numbers.get(labels[i]) ?? 0)), 0);
  return wrong ? [`${wrong} voxels differ`] : [];
}

function sr(file, segFile) {
  const report = dataset(file);
  const segUid = dataset(segFile).SOPInstanceUID;
  const found = [];
  const faults = [];
  const visit = (item) => {
    const children = list(item.ContentSequence);
    const named = (code) => children.filter((child) => code(list(child.ConceptNameCodeSequence)[0]));
    const referred = named((name) => name?.CodeValue === "121191").flatMap((c) => list(c.ReferencedSOPSequence));
    for (const segment of referred) {
      const number = Number(list(segment.ReferencedSegmentNumber)[0]);
      if (segment.ReferencedSOPInstanceUID !== segUid) {
        faults.push(`segment ${number} is of another SEG`);
      }
      for (const child of children.filter((c) => c.ValueType === "NUM")) {
        const { NumericValue: value, MeasurementUnitsCodeSequence: units } = list(child.MeasuredValueSequence)[0];
        const quantity = list(child.ConceptNameCodeSequence)[0].CodeValue;
        found.push({ number, quantity, value: Number(list(value)[0]), unit: list(units)[0].CodeValue });
      }
    }
    children.forEach(visit);
  };
  visit(report);
  for (const m of expected) {
    const same = found.filter((f) => f.number === m.number && f.quantity === m.quantity && f.unit === m.unit);
    if (same.length !== 1 || Math.abs(same[0].value - m.value) > 1e-9 * Math.max(1, Math.abs(m.value))) {
      faults.push(`${JSON.stringify(m)} is not among ${JSON.stringify(found)}`);
    }
  }
  return faults;
}

function shown(folder, sourceFolder) {
  const source = slices(sourceFolder);
  const read = (name) => dataset(path.join(folder, name));
  return [
    ...map(read("parametric-map.dcm"), source),
    ...boxes(read("presentation-state.dcm"), source),
    ...capture(read("secondary-capture.dcm"), source),
  ];
}

/** Each frame by the image that it refers to, and each value as it was. */
function map(data, source) {
  const multiframe = Normalizer.normalizeToDataset([data]);
  const [columns, rows, count] = expected.size;
  const wanted = new Float32Array(bytes(path.join(path.dirname(expectedFile), expected.values)));
  const frames = new Float32Array(list(multiframe.FloatPixelData)[0]);
  const groups = list(multiframe.PerFrameFunctionalGroupsSequence);
  if (multiframe.NumberOfFrames !== count || groups.length !== count || frames.length !== wanted.length) {
    return [`the map has ${groups.length} frames of ${frames.length} values in all, not ${count} of ${wanted.length}`];
  }
  return groups.flatMap((group, index) => {
    const image = list(list(group.DerivationImageSequence)[0].SourceImageSequence)[0];
    const z = source.findIndex((slice) => slice.SOPInstanceUID === image.ReferencedSOPInstanceUID);
    const at = (from) => (i) => from * rows * columns + i;
    const same = z >= 0 && frames.subarray(at(index)(0), at(index + 1)(0)).every((v, i) => v === wanted[at(z)(i)]);
    return same ? [] : [`frame ${index} of the map differs from slice ${z}`];
  });
}

function boxes(state, source) {
  const found = list(state.GraphicAnnotationSequence).flatMap((item) =>
    list(item.GraphicObjectSequence).map((graphic) => {
      const points = graphic.GraphicData.map(Number);
      const across = (axis) => points.filter((_, i) => i % 2 === axis);
      const least = [0, 1].map((axis) => Math.min(...across(axis)));
      const size = [0, 1].map((axis) => Math.max(...across(axis)) - least[axis]);
      const uids = list(item.ReferencedImageSequence).map((image) => image.ReferencedSOPInstanceUID);
      const on = uids.map((uid) => source.findIndex((slice) => slice.SOPInstanceUID === uid)).sort((a, b) => a - b);
      const label = list(item.TextObjectSequence)[0].UnformattedTextValue;
      return { start: [...least, on[0]], size: [...size, on.length], label };
    }),
  );
  const wanted = expected.marks.map(({ start, size, label, probability }) => ({
    start,
    size,
    label: `${label} ${probability.toFixed(2)}`,
  }));
  const [held, stated] = [found, wanted].map((value) => JSON.stringify(value));
  return held === stated ? [] : [`boxes ${held}, not ${stated}`];
}

function capture(data, source) {
  const { Rows: rows, Columns: columns } = data;
  const faults = [];
  if (list(data.PixelData)[0].byteLength !== rows * columns * 3 + ((rows * columns) % 2)) {
    faults.push("the capture is no colour image of its size");
  }
  const image = list(data.SourceImageSequence)[0].ReferencedSOPInstanceUID;
  return image === source[expected.hottest].SOPInstanceUID ? faults : [...faults, "the capture is of another slice"];
}
