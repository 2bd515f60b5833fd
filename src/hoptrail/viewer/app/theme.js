// Light, dark, or as the system has it: chosen by a button, and remembered where that is allowed.
const THEMES = ["auto", "light", "dark"];
const THEME_KEY = "hoptrail-theme";

function rememberedTheme() {
  try {
    const theme = localStorage.getItem(THEME_KEY);
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto"; // a sandboxed frame has no storage
  }
}

function applyTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // It holds until the page is left.
  }
}

/** The button of the page's top line that goes from one theme to the next. */
function ThemeToggle() {
  const [theme, setTheme] = useState(rememberedTheme);
  useEffect(() => applyTheme(theme), [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  return html`<button type="button" class="plain theme"
    title=${`Theme: ${theme}. Change to ${next}.`}
    aria-label=${`Theme: ${theme}. Change to ${next}.`} onClick=${() => setTheme(next)}>
    <${ThemeMark} theme=${theme} />
  </button>`;
}

function ThemeMark({ theme }) {
  const rays = [0, 45, 90, 135, 180, 225, 270, 315];
  return html`<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill="none"
    stroke="currentColor"
    stroke-width="1.5" stroke-linecap="round">
    ${theme === "auto"
      && html`<circle cx="8" cy="8" r="5.5" />
      <path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor" />`}
    ${theme === "dark" && html`<path d="M13.2 9.6A5.6 5.6 0 1 1 6.4 2.8a4.5 4.5 0 0 0 6.8 6.8z" />`}
    ${theme === "light" && html`<circle cx="8" cy="8" r="2.8" />
      ${rays.map((turn) => html`<path d="M8 1.2v1.6" transform=${`rotate(${turn} 8 8)`} />`)}`}
  </svg>`;
}
