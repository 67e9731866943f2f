// Switches on what nhsuk-frontend adds to plain pages. A module, so browsers that cannot run it skip it whole.
import { initAll } from "/static/vendor/nhsuk.js";

document.body.classList.add("js-enabled", "nhsuk-frontend-supported");
initAll();
