// The stamp of an object: what the model saw, band by band, and in colour.

import { make } from "./dom.js";

const COLOUR = ["i", "r", "g"]; // as red, green and blue

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function canvas([red, green, blue], width, height, label) {
  const made = make("canvas", { width, height, role: "img", "aria-label": label });
  const context = made.getContext("2d");
  const image = context.createImageData(width, height);
  for (let n = 0; n < width * height; n += 1) {
    image.data.set([red[n], green[n], blue[n], 255], 4 * n);
  }
  context.putImageData(image, 0, 0);
  return made;
}

const framed = (picture, caption) =>
  make("figure", {}, picture, make("figcaption", {}, caption));

/** Draw into `place`: a picture of each band, the colours first. `observed`: as "ugriz". */
export function stampInto(place, { bands, width, height, pixels }, observed) {
  const layers = Object.fromEntries([...bands].map((band, n) => [band, bytes(pixels[n])]));
  const size = `${width} by ${height} pixels`;
  const colour = canvas(COLOUR.map((band) => layers[band]), width, height,
    `Stamp in colour, ${size}: bands i, r, g as red, green, blue`);
  const single = [...bands].map((band) => {
    const missing = observed && !observed.includes(band);
    const picture = canvas([layers[band], layers[band], layers[band]], width, height,
      `Stamp in band ${band}, ${size}${missing ? ", not observed" : ""}`);
    return framed(picture, missing ? `${band}, not observed` : band);
  });
  place.replaceChildren(framed(colour, COLOUR.join(", ")), ...single);
}
