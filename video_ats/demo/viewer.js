// Draws the frames with what was kept of them, for the setting, block and view that are chosen. No library, no network.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [settingSlider, blockSlider] = ["setting", "block"].map((id) => document.getElementById(id));
const views = document.querySelectorAll("input[name=view]");
const canvases = [...document.querySelectorAll("canvas")];

function chosen() {
  const setting = data.settings[Number(settingSlider.value)];
  const stop = Number(blockSlider.value); // 0 is the input
  const view = [...views].find((radio) => radio.checked).value;
  return { setting, block: stop === 0 ? null : setting.blocks[stop - 1], view };
}

function fade(pixels, at) {
  const grey = 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
  pixels.fill(Math.round(data.fade * grey + (1 - data.fade) * 255), at, at + 3);
}

function colour(pixels, at, score) {
  if (score === "--") { // dropped before: there is no score
    fade(pixels, at);
    return;
  }
  const grey = 0.299 * pixels[at] + 0.587 * pixels[at + 1] + 0.114 * pixels[at + 2];
  const part = data.colours[parseInt(score, 16)];
  for (let channel = 0; channel < 3; channel++) {
    pixels[at + channel] = Math.round(0.78 * part[channel] + 0.22 * grey);
  }
}

function share(pixels, at, colour) {
  for (let channel = 0; channel < 3; channel++) pixels[at + channel] = (colour >> (16 - 8 * channel)) & 255;
}

function outline(pixels, at, colour) { // is seen on light and on dark
  const grey = 0.299 * (colour >> 16) + 0.587 * ((colour >> 8) & 255) + 0.114 * (colour & 255);
  pixels.fill(grey < 128 ? 255 : 0, at, at + 3);
}

function draw(canvas, picture, t, { block, view }) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  if (block === null) return;
  const side = canvas.width;
  const image = context.getImageData(0, 0, side, side);
  const patchAt = (y, x) => Math.floor((y * data.rows) / side) * data.columns + Math.floor((x * data.columns) / side);
  // Of each patch: 0: gone, 1: has a token, 2: shares one.
  const borders = (one, other) =>
    block.tokens[t][one] !== block.tokens[t][other] && (block.marks[t][one] === "2" || block.marks[t][other] === "2");
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const [patch, at] = [patchAt(y, x), 4 * (y * side + x)];
      if (view === "scores" && block.scores !== null) {
        colour(image.data, at, block.scores[t].slice(2 * patch, 2 * patch + 2));
        continue;
      }
      if (block.marks[t][patch] === "0") fade(image.data, at);
      if (block.marks[t][patch] === "2") share(image.data, at, block.colours[t][patch]);
      if (!block.tokens) continue;
      if ((x > 0 && borders(patch, patchAt(y, x - 1))) || (y > 0 && borders(patch, patchAt(y - 1, x)))) {
        outline(image.data, at, block.colours[t][patch]);
      }
    }
  }
  context.putImageData(image, 0, 0);
}

function update(pictures) {
  // A setting may sample in fewer blocks; the browser moves the slider back where it is too far.
  blockSlider.max = String(data.settings[Number(settingSlider.value)].blocks.length);
  const now = chosen();
  views.forEach((radio) => { // similarities are no scores
    radio.disabled = radio.value === "scores" && now.setting.blocks.every((block) => block.scores === null);
  });
  document.getElementById("setting-name").textContent = now.setting.name;
  document.getElementById("says").textContent = now.setting.note;
  document.getElementById("block-name").textContent =
    now.block === null ? "input, all patches" : `${now.block.name}: ${now.block.summary}`;
  canvases.forEach((canvas, t) => {
    draw(canvas, pictures[t], t, now);
    const count = now.block === null ? data.rows * data.columns : now.block.counts[t];
    canvas.nextElementSibling.textContent = `${data.times[t]}\n${count} of ${data.rows * data.columns}`;
  });
}

function loaded(source) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => reject(new Error("a frame cannot be shown"));
    picture.src = source;
  });
}

Promise.all(data.frames.map(loaded)).then((pictures) => {
  const again = () => update(pictures);
  [settingSlider, blockSlider, ...views].forEach((control) => control.addEventListener("input", again));
  again();
  document.body.dataset.ready = "yes";
});
