// What django-unfold's pages leave out for those who don't see them.
addEventListener("DOMContentLoaded", () => {
    // Icons are words in a font of pictures: "dns Mail systems" is read aloud as it stands here.
    for (const icon of document.querySelectorAll(".material-symbols-outlined:not([aria-hidden])")) {
        const holder = icon.closest("a, button");
        const words = holder?.getAttribute("aria-label") || holder?.title
            || holder?.textContent.replace(icon.textContent, "").trim();
        // An icon alone is its button's only name.
        if (!holder || words) icon.setAttribute("aria-hidden", "true");
    }
    document.getElementById("content")?.setAttribute("role", "main");
});
