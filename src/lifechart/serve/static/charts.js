// Draws each series of results above its table, from the table: without this file the numbers are all still there.
"use strict";

const INK = "#23363d", BAND = "rgba(11, 110, 79, 0.10)", LINE = "#0b5d6e", OUT = "#b3261e";

function read(table) {
  const rows = [...table.tBodies[0].rows].reverse();
  const times = rows.map((row) => Date.parse(row.querySelector("[data-time]").dataset.time) / 1000);
  const values = rows.map((row) => Number(row.querySelector("[data-value]").dataset.value));
  const bound = (name) => (name in table.dataset ? Number(table.dataset[name]) : null);
  return { times, values, low: bound("low"), high: bound("high") };
}

function band(series) {
  // The reference range, painted under the line.
  return (plot) => {
    if (series.low === null && series.high === null) return;
    const { left, top, width, height } = plot.bbox;
    const y = (value) => Math.min(top + height, Math.max(top, plot.valToPos(value, "y", true)));
    const upper = series.high === null ? top : y(series.high);
    const lower = series.low === null ? top + height : y(series.low);
    plot.ctx.fillStyle = BAND;
    plot.ctx.fillRect(left, upper, width, lower - upper);
  };
}

function outliers(series) {
  // Values outside the range are ringed as well as coloured, so that colour alone never carries the meaning.
  return (plot) => {
    const ratio = devicePixelRatio;
    plot.ctx.save();
    plot.ctx.strokeStyle = OUT;
    plot.ctx.lineWidth = 2 * ratio;
    series.values.forEach((value, index) => {
      const outside = (series.low !== null && value < series.low) || (series.high !== null && value > series.high);
      if (!outside) return;
      plot.ctx.beginPath();
      plot.ctx.arc(plot.valToPos(series.times[index], "x", true), plot.valToPos(value, "y", true), 4 * ratio, 0, 7);
      plot.ctx.stroke();
    });
    plot.ctx.restore();
  };
}

function range(series) {
  const known = [...series.values, series.low, series.high].filter((value) => value !== null);
  const low = Math.min(...known), high = Math.max(...known), middle = (low + high) / 2;
  // At least a quarter of the level, so that a pulse between 74 and 77 does not look like a storm.
  const half = Math.max((high - low) * 0.62, Math.abs(middle) * 0.125, 1e-6);
  return [low >= 0 ? Math.max(0, middle - half) : middle - half, middle + half];
}

function draw(place) {
  const series = read(document.getElementById(`values-${place.dataset.series}`));
  const font = "12px 'Atkinson Hyperlegible Next Variable', arial, sans-serif";
  const axis = { stroke: INK, font, grid: { stroke: "#e6ebed", width: 1 }, ticks: { show: false } };
  const options = {
    width: place.clientWidth,
    height: 150,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: range(series) } },
    axes: [
      { ...axis, space: 60, size: 26, grid: { show: false } },
      { ...axis, size: 44, space: 34 },
    ],
    series: [{}, { stroke: LINE, width: 1.75, points: { show: true, size: 5, fill: LINE, stroke: LINE } }],
    hooks: { drawClear: [band(series)], draw: [outliers(series)] },
  };
  const plot = new uPlot(options, [series.times, series.values], place);
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 150 })).observe(place);
}

// Only what comes into view is drawn: a long chart has dozens of series.
const seen = new IntersectionObserver((entries) => {
  entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    seen.unobserve(entry.target);
    draw(entry.target);
  });
}, { rootMargin: "300px" });
document.querySelectorAll(".lc-chart").forEach((place) => seen.observe(place));

// A driver's link can lead into a table that is folded away.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let parent = target; parent; parent = parent.parentElement) {
    if (parent.tagName === "DETAILS") parent.open = true;
  }
  if (target) target.scrollIntoView({ block: "center" });
}
addEventListener("hashchange", unfold);
unfold();
