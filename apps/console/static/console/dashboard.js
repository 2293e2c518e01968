// Keeps the dashboard's figures and charts up to date while somebody looks at it.
const board = document.getElementById("figures");
const EVERY_MS = 10_000;

function show(found) {
    for (const [name, value] of Object.entries(found.numbers)) {
        const field = document.querySelector(`[data-figure="${name}"]`);
        if (field) field.textContent = value;
    }
    for (const [name, data] of Object.entries(found.charts)) {
        const canvas = document.querySelector(`[data-chart="${name}"]`);
        const chart = canvas && window.Chart?.getChart(canvas);
        if (!chart) continue;
        chart.data.labels = data.labels;
        data.datasets.forEach((dataset, number) => { chart.data.datasets[number].data = dataset.data; });
        chart.update("none");
    }
    const attention = document.getElementById("attention");
    attention.querySelector(".ens-more").hidden = Number(attention.dataset.count) === found.attention;
}

// Counts begin at nothing and have no halves; an empty chart's line lies on the ground.
function ground() {
    for (const canvas of document.querySelectorAll("[data-chart]")) {
        const chart = window.Chart?.getChart(canvas);
        const y = chart?.options.scales?.y;
        if (!y) continue;
        y.min = 0;
        y.suggestedMax = 4;
        y.ticks.precision = 0;
        chart.update("none");
    }
}

async function refresh() {
    if (document.hidden) return;
    try {
        const answer = await fetch(board.dataset.url, { headers: { "X-ENS-Poll": "1" }, redirect: "error" });
        if (answer.ok) show(await answer.json());
    } catch {
        // The server is away, or the session is over: the figures stay as they are.
    }
}

if (document.readyState === "complete") ground();
else addEventListener("load", ground);
setInterval(refresh, EVERY_MS);
