"use strict";
for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg"), plot = chart.querySelector(".plot"), tip = chart.querySelector(".tip");
  const cursor = chart.querySelector(".cursor"), lines = [...svg.querySelectorAll(".line")];
  const buttons = [...chart.querySelectorAll(".legend button")];
  const number = (name) => Number(plot.getAttribute(name));
  const low = Number(plot.dataset.low), high = Number(plot.dataset.high), log = plot.dataset.scale === "log";
  const data = lines.map((line) => line.dataset.points.split(" ").map((point) => point.split(",").map(Number)));
  const show = (value) => Number(value.toPrecision(4)).toString();
  buttons.forEach((button, place) => button.addEventListener("click", () => {
    button.classList.toggle("off");
    lines[place].classList.toggle("off");
  }));
  const hide = () => { tip.hidden = true; cursor.style.visibility = "hidden"; };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = 900 / box.width;
    const at = (event.clientX - box.left) * scale, share = (at - number("x")) / number("width");
    if (share < 0 || share > 1) { hide(); return; }
    const x = log ? low * Math.pow(high / low, share) : low + share * (high - low);
    const rows = [];
    data.forEach((points, place) => {
      if (lines[place].classList.contains("off")) { return; }
      let last = null;
      for (const point of points) { if (point[0] <= x) { last = point; } else { break; } }
      if (last !== null) { rows.push([last[1], place]); }
    });
    rows.sort((one, other) => other[0] - one[0]);
    tip.replaceChildren();
    const head = document.createElement("div");
    head.textContent = show(x) + " s";
    tip.append(head);
    for (const [value, place] of rows.slice(0, 14)) {
      const row = document.createElement("div"), key = document.createElement("span");
      row.className = [...lines[place].classList].find((name) => /^c\d$/.test(name));
      key.className = "key";
      row.append(key, show(value) + "  " + lines[place].dataset.label);
      tip.append(row);
    }
    cursor.setAttribute("x1", at); cursor.setAttribute("x2", at);
    cursor.setAttribute("y1", number("y")); cursor.setAttribute("y2", number("y") + number("height"));
    cursor.style.visibility = "visible";
    tip.hidden = false;
    const left = event.clientX - box.left, right = left > box.width / 2;
    tip.style.left = right ? "auto" : left + 16 + "px";
    tip.style.right = right ? box.width - left + 16 + "px" : "auto";
    tip.style.top = event.clientY - box.top + 10 + "px";
  });
}
