"use strict";
// The page works on what is in it: points and rows carry the place of their setting in the data.
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const chosen = document.getElementById("chosen");
const table = document.getElementById("settings");
const withPlace = [...document.querySelectorAll(".point, #settings tbody tr")];

function element(name, attributes = {}, text = "") {
  const svg = ["svg", "rect", "text", "line", "circle"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// --- the curve and the table point at each other

// A circle around each mark: easier to hit than the mark, and seen where the point is lit.
for (const point of document.querySelectorAll(".point")) {
  const box = point.getBBox();
  point.append(element("circle", { class: "reach", cx: box.x + box.width / 2, cy: box.y + box.height / 2, r: 7 }));
}

function light(place) {
  for (const one of withPlace) one.classList.toggle("on", one.dataset.place === String(place));
}

function showTip(at) {
  const box = at.querySelector(".reach").getBoundingClientRect();
  // Points may lie on one another: all of them are named, the one on top first.
  const beside = [...document.querySelectorAll(".point")].filter((other) => {
    const there = other.querySelector(".reach").getBoundingClientRect();
    return other !== at && Math.hypot(there.x - box.x, there.y - box.y) < 6;
  });
  tip.textContent = [at, ...beside].map((one) => data.settings[one.dataset.place].tip).join("\n\n");
  tip.style.display = "block";
  const left = Math.min(box.right + 10, document.documentElement.clientWidth - tip.offsetWidth - 10);
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${box.top + window.scrollY - tip.offsetHeight - 6}px`;
  light(at.dataset.place);
}

function hideTip() {
  tip.style.display = "none";
  light(chosen.value);
}

for (const one of withPlace) {
  if (one.classList.contains("point")) {
    for (const event of ["mouseenter", "focus"]) one.addEventListener(event, () => showTip(one));
    for (const event of ["mouseleave", "blur"]) one.addEventListener(event, hideTip);
  } else {
    one.addEventListener("mouseenter", () => light(one.dataset.place));
    one.addEventListener("mouseleave", () => light(chosen.value));
  }
  one.addEventListener("click", () => choose(one.dataset.place));
  one.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(one.dataset.place); });
}

// --- the table sorts: numbers from the largest first, names from A

function sort(heading) {
  const headings = [...heading.parentElement.children];
  const column = headings.indexOf(heading);
  const first = column === 0 ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = heading.getAttribute("aria-sort") === first ? other : first;
  for (const each of headings) each.setAttribute("aria-sort", each === heading ? direction : "none");
  const value = (row) => row.children[column].dataset.sort;
  const compare = column === 0
    ? (a, b) => value(a).localeCompare(value(b), "en", { numeric: true })
    : (a, b) => Number(value(a)) - Number(value(b));
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
}

for (const heading of table.tHead.rows[0].children) {
  heading.addEventListener("click", () => sort(heading));
  heading.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(heading); });
}

// --- one setting

function drawHistogram(setting) {
  // As wide as there is room, so that the text keeps its size.
  const room = document.getElementById("histogram").clientWidth;
  const width = Math.min(900, Math.max(320, room)), height = 200, left = 44, bottom = 40, top = 8;
  const most = Math.max(...setting.counts);
  const svg = element("svg", { class: "histogram", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `GFLOPs per video with ${setting.name}` });
  const [low, high] = [setting.edges[0], setting.edges[setting.edges.length - 1]];
  const x = (gflops) => left + (gflops - low) / (high - low) * (width - left - 16);
  const ticks = width < 600 ? 2 : 4;
  const y = (count) => height - bottom - count / most * (height - bottom - top);
  setting.counts.forEach((count, bin) => {
    const bar = element("rect", { x: x(setting.edges[bin]), y: y(count), fill: "#0072B2",
      width: x(setting.edges[bin + 1]) - x(setting.edges[bin]) - 1, height: height - bottom - y(count) });
    const range = `${setting.edges[bin].toPrecision(4)} to ${setting.edges[bin + 1].toPrecision(4)} GFLOPs`;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = `${count} videos: ${range}`;
    bar.append(title);
    svg.append(bar);
  });
  svg.append(element("line", { x1: left, x2: width - 16, y1: height - bottom, y2: height - bottom, stroke: "#888" }));
  for (let tick = 0; tick <= ticks; tick++) {
    const gflops = low + tick / ticks * (high - low);
    const anchor = tick === 0 ? "start" : tick === ticks ? "end" : "middle";
    svg.append(element("text", { x: x(gflops), y: height - bottom + 16, "text-anchor": anchor }, gflops.toPrecision(4)));
  }
  svg.append(element("line", { x1: x(setting.mean), x2: x(setting.mean), y1: top, y2: height - bottom,
    stroke: "#D55E00", "stroke-width": 1.5 }));
  svg.append(element("text", { x: left - 6, y: y(most) + 10, "text-anchor": "end" }, most));
  svg.append(element("text", { x: width / 2, y: height - 6, "text-anchor": "middle" },
    `GFLOPs per video; orange: the mean, ${setting.mean.toPrecision(4)}`));
  document.getElementById("histogram").replaceChildren(svg);
}

function half(side, share) {
  const box = element("span", { class: `half ${side}` });
  const bar = element("i");
  bar.style.width = `${100 * share}%`;
  box.append(bar);
  return box;
}

function drawClasses(setting) {
  const dense = data.settings.find((each) => each.dense);
  const rows = data.classes.map(([name, videos], place) => {
    const own = 100 * setting.correct[place] / videos;
    const before = dense ? 100 * dense.correct[place] / videos : null;
    return { name, videos, own, before, change: dense ? own - before : 0 };
  });
  rows.sort((a, b) => a.change - b.change || a.own - b.own);
  const most = Math.max(1, ...rows.map((row) => Math.abs(row.change)));
  document.querySelector("#classes tbody").replaceChildren(...rows.map((row) => {
    const line = element("tr");
    const sign = row.change > 0 ? "+" : "";
    const texts = [row.name, row.videos, dense ? row.before.toFixed(1) : "-", row.own.toFixed(1),
      dense ? sign + row.change.toFixed(1) : "-"];
    for (const text of texts) line.append(element("td", {}, text));
    const bar = element("td", { class: "bar" });
    bar.append(half("left", Math.max(-row.change, 0) / most), half("right", Math.max(row.change, 0) / most));
    line.append(bar);
    return line;
  }));
}

// --- the videos

const search = document.getElementById("search");
const filter = document.getElementById("filter");
const videoRows = []; // each with the kinds that the filter asks for

function cell(text, kind = "") {
  return element("td", kind ? { class: kind } : {}, text);
}

function drawVideos(setting) {
  const dense = data.settings.find((each) => each.dense);
  videoRows.length = 0;
  for (const [name, status, reason] of data.failures) {
    const row = element("tr");
    const why = cell(reason ? `${status}: ${reason}` : status, "bad");
    why.colSpan = data.labelled ? 5 : 4;
    row.append(cell("", "picture"), cell(name), why);
    videoRows.push({ row, name, kinds: ["failed"] });
  }
  data.videos.forEach((name, place) => {
    const row = element("tr");
    const [label, answer] = [data.labels[place], setting.top1[place]];
    const right = answer === label;
    const kinds = data.labelled ? [right ? "right" : "wrong"] : [];
    if (dense) kinds.push(answer === dense.top1[place] ? "agrees" : "differs");
    const picture = cell("", "picture");
    if (data.thumbnails[place]) {
      const image = element("img", { src: data.thumbnails[place], alt: "" });
      picture.append(image);
    }
    row.append(picture, cell(name), ...(data.labelled ? [cell(data.names[label])] : []),
      cell(data.names[answer], kinds.includes("wrong") ? "bad" : ""),
      cell(dense ? data.names[dense.top1[place]] : "-"), cell(setting.gflops[place], "number"), cell(kinds.join(", ")));
    videoRows.push({ row, name, kinds });
  });
  document.querySelector("#videos tbody").replaceChildren(...videoRows.map((each) => each.row));
  showVideos();
}

function showVideos() {
  const wanted = search.value.trim().toLowerCase();
  let count = 0;
  for (const { row, name, kinds } of videoRows) {
    const there = name.toLowerCase().includes(wanted) && (filter.value === "all" || kinds.includes(filter.value));
    row.hidden = !there;
    count += there;
  }
  document.getElementById("count").textContent = `${count} of ${videoRows.length} rows`;
}

search.addEventListener("input", showVideos);
filter.addEventListener("change", showVideos);

function choose(place) {
  chosen.value = place;
  light(place);
  drawHistogram(data.settings[place]);
  if (data.classes.length) drawClasses(data.settings[place]);  // none without labels
  drawVideos(data.settings[place]);
}

chosen.addEventListener("change", () => choose(chosen.value));
choose(data.shown);
window.addEventListener("resize", () => drawHistogram(data.settings[chosen.value]));
