"""Judges a SEG by what a radiologist would see of it: OHIF in headless Chromium.

    judge_viewer.py OHIF_FOLDER DICOM_WEB SEG SOURCE_FOLDER EXPECTED_JSON OUT_FOLDER

DICOM_WEB is where a server has the study with the SEG. OHIF is served from its folder, and what it asks of DICOMweb is asked there: to
the browser both are one origin. EXPECTED_JSON is that of judge_seg.py. OUT_FOLDER gets pictures of the page, `viewer.png` the whole.

Three things must agree in each of several slices: the image as drawn with the slice of the source (so that it is known where in the
picture a voxel lies), the difference between the pictures with and without the SEG with what the module stated, and the colour
of each segment with its own. Passes with status 0; otherwise prints each fault and ends with status 1.
"""

import http.client
import http.server
import io
import json
import mimetypes
import pathlib
import sys
import threading
import urllib.parse

import numpy as np
import pydicom
from PIL import Image, ImageCms
from scipy import ndimage

from browser import Browser
from judge_seg import slices

WIDTH, HEIGHT, DEADLINE_S = 1400, 900, 240
# Of 255: less is what a browser rounds.
SEEN_MIN = 6
# What two pictures of the same thing have in common: correlation of grey values, Dice of areas.
ALIKE_MIN, DICE_MIN = 0.98, 0.95
# Of 255: what a viewer's conversion of CIELab and mixing with grey may change. And pixels of a segment of which a colour is told.
COLOUR_MAX, COLOUR_PIXELS_MIN = 16, 100
# Who opens it has seen its tour before.
CONFIG = """localStorage.setItem('shownTours', '["basicViewerTour"]');
window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 2, showCPUFallbackMessage: false, disableConfirmationPrompts: true,
  investigationalUseDialog: { option: 'never' }, defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'DICOMweb', name: 'dicomweb', qidoRoot: ORIGIN, wadoRoot: ORIGIN, wadoUriRoot: ORIGIN,
      qidoSupportsIncludeField: true, imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      supportsFuzzyMatching: false, supportsWildcard: true, omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true },
    },
  }],
};"""


def main():
    ohif, source_path, expected_path, out = map(pathlib.Path, (sys.argv[1], *sys.argv[4:7]))
    expected = json.loads(expected_path.read_text())
    x, y, z = expected["size"]
    labels = np.fromfile(expected_path.parent / expected["voxels"], np.dtype(expected["type"])).reshape(z, y, x)
    seg = pydicom.dcmread(sys.argv[3], stop_before_pixels=True)
    out.mkdir(parents=True, exist_ok=True)
    with Browser(WIDTH, HEIGHT, DEADLINE_S) as browser:
        site = serve(ohif, sys.argv[2])
        try:
            faults = judge(browser, site, seg, source_path, labels, expected["segments"], out)
        except (RuntimeError, TimeoutError) as e:
            faults = [str(e)]
            # What there is to see may tell why.
            browser.until += 10
            (out / "viewer.png").write_bytes(browser.picture())
        faults += site.faults
    for fault in faults:
        print(fault)
    print("not as expected" if faults else f"{len(expected['segments'])} segments seen where they are")
    sys.exit(bool(faults))


# The first viewport, once it shows the SEG over its source.
READY = """(() => {
  const [first] = cornerstone.getEnabledElements();
  const { segmentationService } = services;
  return first.viewport.getCurrentImageId()
    && segmentationService.getSegmentationRepresentations(first.viewport.id).length === 1
    && segmentationService.getSegmentations().length === 1
})()"""
# Its segments as the viewer names them, and its slices.
HELD = """(() => {
  const [{ viewport }] = cornerstone.getEnabledElements();
  const [segmentation] = services.segmentationService.getSegmentations();
  const segments = Object.values(segmentation.segments).map(s => [s.segmentIndex, s.label]);
  return { segments, images: viewport.getImageIds() };
})()"""
# Shows a slice with the SEG or without, and waits until nothing is drawn any more; where points of the patient then are in the picture.
SHOW = """(async () => {
  const [{ viewport }] = cornerstone.getEnabledElements();
  const { Events } = cornerstone.Enums;
  const [{ segmentationId, type }] = services.segmentationService.getSegmentationRepresentations(viewport.id);
  let still = 0;
  viewport.element.addEventListener(Events.IMAGE_RENDERED, () => { still = 0; });
  await viewport.setImageIdIndex(INDEX);
  const { visibility } = cornerstoneTools.segmentation.config;
  visibility.setSegmentationRepresentationVisibility(viewport.id, { segmentationId, type }, VISIBLE);
  viewport.render();
  // Segments are drawn some frames after their image.
  while (still++ < 10) {
    await new Promise(requestAnimationFrame);
  }
  const { left, top, width, height } = viewport.element.getBoundingClientRect();
  return { clip: { x: left, y: top, width, height }, points: POINTS.map(point => viewport.worldToCanvas(point)) };
})()"""


def judge(browser, site, seg, source_path, labels, expected, out):
    source, images = slices(source_path), grey_values(source_path)
    lab = {int(s.SegmentNumber): s.RecommendedDisplayCIELabValue for s in seg.SegmentSequence}
    colours = {s["value"]: (s["name"], rgb(lab[s["number"]])) for s in expected}
    uids = f"StudyInstanceUIDs={seg.StudyInstanceUID}&initialSeriesInstanceUID={seg.SeriesInstanceUID}"
    browser.open(f"{site.url}/viewer?{uids}")
    browser.wait("the SEG over its images", READY)
    held = browser.evaluate(HELD)
    wanted = [[s["number"], s["name"]] for s in expected]
    if held["segments"] != wanted:
        return [f"the viewer lists {held['segments']}, not {wanted}"]
    faults = []
    for z in telling(labels):
        named = [i for i, image in enumerate(held["images"]) if f"/{source[z][0]}/" in image]
        if len(named) != 1:
            return [f"the viewer has {len(named)} images of slice {z}"]
        _, position, along_row, along_column, (row_spacing, column_spacing) = source[z]
        corners = [position, position + column_spacing * along_row, position + row_spacing * along_column]
        show = SHOW.replace("INDEX", str(named[0])).replace("POINTS", json.dumps([list(c) for c in corners]))
        pictures = []
        for visible, name in (("false", "without"), ("true", "with")):
            shown = browser.evaluate(show.replace("VISIBLE", visible))
            png = browser.picture(**shown["clip"])
            (out / f"slice-{z}-{name}.png").write_bytes(png)
            pictures.append(np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float))
        faults += compare(z, *pictures, np.array(shown["points"]), labels[z], images[source[z][0]], colours)
    (out / "viewer.png").write_bytes(browser.picture())
    return faults


def compare(z, without, with_seg, corners, labels, image, colours):
    """Two pictures of one slice against what they must show; `corners` are the first pixel, the next in its row and in its column."""
    rows, columns = np.indices(without.shape[:2]) + 0.5
    to_picture = np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=1)
    column, row = np.einsum("ij,jyx->iyx", np.linalg.inv(to_picture), np.stack([columns, rows]) - corners[0][:, None, None])
    inside = (column >= 0) & (row >= 0) & (column <= labels.shape[1] - 1) & (row <= labels.shape[0] - 1)
    at = lambda a, order: ndimage.map_coordinates(a, [row, column], order=order)
    drawn = without.mean(axis=2)
    alike = {name: float(np.corrcoef(drawn[inside], at(a, 1)[inside])[0, 1]) for name, a in mirrored(image)}
    if alike["as it is"] < ALIKE_MIN or alike["as it is"] < max(alike.values()):
        return [f"slice {z} is not drawn as it is: {alike}"]
    seen = (np.abs(with_seg - without).max(axis=2) >= SEEN_MIN) & inside
    dice = {}
    for name, a in mirrored(labels > 0):
        stated = at(a.astype(np.uint8), 0) > 0
        dice[name] = float(2 * (seen & stated & inside).sum() / max(1, seen.sum() + (stated & inside).sum()))
    if dice["as it is"] < DICE_MIN:
        return [f"the segments of slice {z} are not seen where they were stated: {dice}"]
    if max(value for name, value in dice.items() if name != "as it is") > DICE_MIN - 0.1:
        return [f"slice {z} cannot tell where its segments are: {dice}"]
    stated = (at((labels > 0).astype(np.uint8), 0) > 0) & inside
    moved = np.linalg.norm(np.argwhere(seen).mean(axis=0) - np.argwhere(stated).mean(axis=0))
    if moved > 2:
        return [f"the segments of slice {z} are seen {moved:.1f} pixels from where they were stated"]
    faults = []
    for value, (name, wanted) in colours.items():
        # Without its border, which is drawn otherwise.
        within = ndimage.binary_erosion((at(labels, 0) == value) & inside, iterations=5)
        if within.sum() >= COLOUR_PIXELS_MIN:
            found = mixed_in(without[within], with_seg[within])
            if np.abs(found - wanted).max() > COLOUR_MAX:
                faults.append(f"{name} in slice {z} is seen in {found.round()}, not in {wanted}")
    return faults


def mixed_in(grey, seen):
    """The colour that, mixed with grey in some proportion, gives what is seen."""
    kept = np.cov(grey.mean(axis=1), seen.mean(axis=1))
    kept = kept[0, 1] / kept[0, 0]
    return (seen - kept * grey).mean(axis=0) / (1 - kept)


def rgb(lab):
    """PCS-Values of PS3.3 section C.10.7.1.1 as sRGB."""
    light, *opponents = np.array(lab, float) / 65535 * 255
    pixel = Image.new("LAB", (1, 1), (round(light), *(round(o) for o in opponents)))
    profiles = map(ImageCms.createProfile, ("LAB", "sRGB"))
    return np.array(ImageCms.applyTransform(pixel, ImageCms.buildTransform(*profiles, "LAB", "RGB")).getpixel((0, 0)))


def grey_values(folder):
    """Each image as its first window shows it, from 0 to 1, by SOP Instance UID."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        d = pydicom.dcmread(path)
        uid = d.get("SOPInstanceUID") or d.file_meta.MediaStorageSOPInstanceUID
        centre, width = (float(np.atleast_1d(v)[0]) for v in (d.WindowCenter, d.WindowWidth))
        values = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
        found[str(uid)] = np.clip((values - centre) / width + 0.5, 0, 1)
    return found


def mirrored(a):
    return [("as it is", a), ("left to right", a[:, ::-1]), ("upside down", a[::-1]), ("turned", a[::-1, ::-1])]


def telling(labels):
    """Slices that can be told from their mirror images and from each other: first, middle and last of those with segments."""
    full = [z for z in range(len(labels)) if labels[z].any()]
    return sorted({full[0], full[len(full) // 2], full[-1]})


def serve(ohif, dicom_web):
    """Serves until the program ends; `faults` are the questions that DICOMweb did not answer well."""
    target = urllib.parse.urlsplit(dicom_web)

    class Site(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/dicom-web/"):
                status, kind, body = self.ask()
            else:
                status, kind, body = self.file()
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def ask(self):
            """Of DICOMweb, which sees our origin, so that the URLs in its answers are of it."""
            connection = http.client.HTTPConnection(target.netloc, timeout=60)
            path = target.path.rstrip("/") + self.path.removeprefix("/dicom-web")
            headers = {"Host": self.headers["Host"], "Accept": self.headers.get("Accept", "*/*")}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            if answer.status >= 400:
                faults.append(f"DICOMweb answers {answer.status} to {path} for {headers['Accept']}: {body[:200]!r}")
            return answer.status, answer.getheader("Content-Type"), body

        def file(self):
            path = urllib.parse.urlsplit(self.path).path.lstrip("/")
            if path == "app-config.js":
                origin = json.dumps(f"http://{self.headers['Host']}/dicom-web")
                return 200, "text/javascript", CONFIG.replace("ORIGIN", origin).encode()
            file = ohif / path
            # What is no file is a page that the one page knows.
            if not file.is_file() or ".." in path:
                file = ohif / "index.html"
            return 200, mimetypes.guess_type(file)[0] or "application/octet-stream", file.read_bytes()

    faults = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.faults, server.url = faults, f"http://127.0.0.1:{server.server_port}"
    return server


if __name__ == "__main__":
    main()
