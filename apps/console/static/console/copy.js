// Buttons with data-copy="<id>" copy the value of that field.
document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = document.getElementById(button.dataset.copy);
    const words = button.querySelector("[data-copy-words]");
    try {
        await navigator.clipboard.writeText(field.value ?? field.textContent);
    } catch {
        // Without HTTPS there is no clipboard for scripts: select it, so that a key does it.
        field.select?.();
        words.textContent = "Press Ctrl+C";
        return;
    }
    words.textContent = "Copied";
    setTimeout(() => { words.textContent = "Copy"; }, 2000);
});
