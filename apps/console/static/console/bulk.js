// Sends the devices of a bulk action in small parts, one after the other, and shows how far it is.
const form = document.getElementById("bulk");
const button = form.querySelector("button[type=submit]");
const state = { waiting: form.elements.ids.value.split(/\s+/).filter(Boolean), done: 0, seen: 0, reasons: {} };

function tell(words) {
    document.getElementById("bulk-progress").hidden = false;
    form.querySelector("progress").value = state.seen;
    document.getElementById("bulk-status").textContent = words;
    const lines = Object.entries(state.reasons).map(([reason, times]) => {
        const line = document.createElement("li");
        line.textContent = `${times} ×: ${reason}`;
        return line;
    });
    document.getElementById("bulk-reasons").replaceChildren(...lines);
}

async function sendNext() {
    const part = state.waiting.slice(0, Number(form.dataset.chunk));
    const body = new FormData(form);
    body.set("ids", part.join(" "));
    const answer = await fetch(form.action, { method: "POST", body, redirect: "error" });
    if (!answer.ok) throw new Error(answer.status);
    const found = await answer.json();
    state.done += found.done;
    state.seen += part.length;
    for (const [reason, times] of Object.entries(found.not_done)) {
        state.reasons[reason] = (state.reasons[reason] ?? 0) + times;
    }
    state.waiting.splice(0, part.length);
}

form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
        while (state.waiting.length) {
            tell(`${state.seen} of ${state.seen + state.waiting.length} …`);
            await sendNext();
        }
        tell(`Done: ${state.done} of ${state.seen}.`);
        button.hidden = true;
        document.getElementById("bulk-back").textContent = "Back to the devices";
    } catch {
        tell(`Stopped after ${state.seen}: the server did not answer. Nothing is lost; go on when you like.`);
        button.disabled = false;
        button.textContent = "Go on";
    }
});
