/**
 * Pixels of an image as the values of a tensor.
 *
 * @typedef {import("./signature.js").ImageShape} ImageShape
 * @typedef {"unit" | "bytes" | "signed" | "imagenet"} PixelScale
 */

/**
 * How a pixel's bytes become values.
 * @type {Record<PixelScale, string>}
 */
export const SCALES = {
  unit: "0 to 1",
  bytes: "0 to 255",
  signed: "-1 to 1",
  imagenet: "ImageNet mean and deviation",
};

const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];
const RED = 0.299;
const GREEN = 0.587;
const BLUE = 0.114;

/**
 * The values of an image in the order of the tensor: rows of pixels for each channel, or the channels of each pixel.
 * @param {Uint8ClampedArray | Uint8Array | number[]} rgba four bytes a pixel, row by row
 * @param {number} height
 * @param {number} width
 * @param {{channels: number, first: boolean}} shape
 * @param {PixelScale} scale
 * @returns {number[]}
 */
export function pixelValues(rgba, height, width, shape, scale) {
  const pixels = height * width;
  if (rgba.length < pixels * 4) throw new RangeError("the image has too few pixels");
  const values = new Array(pixels * shape.channels);
  for (let pixel = 0; pixel < pixels; pixel += 1)
    for (let channel = 0; channel < shape.channels; channel += 1) {
      const place = shape.first ? channel * pixels + pixel : pixel * shape.channels + channel;
      values[place] = scaleByte(byteOf(rgba, pixel * 4, channel, shape.channels), channel, scale);
    }
  return values;
}

/**
 * @param {Uint8ClampedArray | Uint8Array | number[]} rgba
 * @param {number} start
 * @param {number} channel
 * @param {number} channels
 */
function byteOf(rgba, start, channel, channels) {
  const [red = 0, green = 0, blue = 0] = [rgba[start], rgba[start + 1], rgba[start + 2]];
  return channels === 1 ? Math.round(RED * red + GREEN * green + BLUE * blue) : (rgba[start + channel] ?? 0);
}

/**
 * @param {number} byte
 * @param {number} channel
 * @param {PixelScale} scale
 */
function scaleByte(byte, channel, scale) {
  const unit = byte / 255;
  if (scale === "bytes") return byte;
  if (scale === "signed") return roundPixel(unit * 2 - 1);
  if (scale === "imagenet") return roundPixel((unit - (MEAN[channel] ?? 0)) / (DEVIATION[channel] ?? 1));
  return roundPixel(unit);
}

/**
 * Five digits: a byte has no more, and the request stays short.
 * @param {number} value
 */
function roundPixel(value) {
  return Number(value.toFixed(5));
}

/**
 * The size to draw an image at: that of the input, its own where any will do.
 * @param {ImageShape} shape
 * @param {{width: number, height: number}} image
 * @param {number} [most] the longest side where any will do
 */
export function drawnSize(shape, image, most = 512) {
  const scale = Math.min(1, most / Math.max(image.width, image.height, 1));
  return {
    height: shape.height || Math.max(1, Math.round(image.height * scale)),
    width: shape.width || Math.max(1, Math.round(image.width * scale)),
  };
}
