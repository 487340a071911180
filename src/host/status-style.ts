/** How the status page looks: on a phone first, in sunlight and at night, with no font or image to load. */
export const statusStyle = `
:root {
  color-scheme: light dark;
  --ground: #f5f4ef; --card: #fffefb; --line: #e4e1d8; --ink: #1c2320; --soft: #5f6963;
  --ok: #23704a; --ok-wash: #e3f0e7; --degraded: #8f5600; --degraded-wash: #fbeed3; --failing: #a8201a;
  --failing-wash: #fbe3df; --bar: #cfcbbf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #111513; --card: #191f1c; --line: #2a322e; --ink: #e8ece9; --soft: #96a19b;
    --ok: #6fcf97; --ok-wash: #17291f; --degraded: #f0b04f; --degraded-wash: #2e2410; --failing: #ff8a7d;
    --failing-wash: #351a17; --bar: #39433e;
  }
}
* { box-sizing: border-box; margin: 0; }
html { background: var(--ground); color: var(--ink); -webkit-text-size-adjust: 100%; }
body {
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
  max-width: 46rem; margin: 0 auto; padding: 1rem max(1rem, env(safe-area-inset-left)) 2rem;
}
.ok { --tone: var(--ok); --wash: var(--ok-wash); }
.degraded { --tone: var(--degraded); --wash: var(--degraded-wash); }
.failing { --tone: var(--failing); --wash: var(--failing-wash); }
.mark { fill: var(--tone); flex: none; }
.mark .solid { fill: var(--tone); stroke: var(--tone); stroke-width: 2; stroke-linejoin: round; }
.mark path:not(.solid) { fill: none; stroke: var(--card); stroke-width: 2.6; stroke-linecap: round; stroke-linejoin: round; }

header { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; padding: .25rem 0 .9rem; }
header b { font-size: 1.05rem; font-weight: 650; overflow-wrap: anywhere; }
header span { color: var(--soft); font-size: .85rem; white-space: nowrap; }

.hero {
  display: flex; align-items: center; gap: 1rem; padding: 1.25rem 1.1rem;
  background: var(--wash); border-radius: 1.1rem;
}
.hero .mark { width: 3.4rem; height: 3.4rem; }
.hero .mark path:not(.solid) { stroke: var(--wash); }
h1 { font-size: 2.5rem; line-height: 1.05; letter-spacing: -.025em; font-weight: 700; color: var(--tone); }
.hero p { margin-top: .3rem; }

.quiet {
  display: none; margin-bottom: .9rem; padding: .75rem 1rem; border-radius: .8rem;
  background: var(--ink); color: var(--ground); font-weight: 600;
}
.is-quiet .quiet { display: block; }
.is-quiet main { opacity: .5; }

.troubles { list-style: none; padding: 0; margin-top: .8rem; display: grid; gap: .6rem; }
.troubles li {
  display: flex; gap: .8rem; padding: .85rem 1rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .9rem;
}
.troubles .mark { width: 1.5rem; height: 1.5rem; }
.troubles div { flex: 1; min-width: 0; }
.troubles h2 {
  display: flex; flex-wrap: wrap; justify-content: space-between; align-items: baseline; gap: 0 1rem;
  font-size: 1rem; font-weight: 650; overflow-wrap: anywhere;
}
.troubles em { font-style: normal; font-size: .85rem; color: var(--tone); white-space: nowrap; }
.troubles p { margin-top: .15rem; overflow-wrap: anywhere; }

h3 { margin: 1.7rem 0 .5rem .2rem; font-size: .85rem; font-weight: 600; color: var(--soft); }
.parts { background: var(--card); border: 1px solid var(--line); border-radius: .9rem; }
.part { padding: .8rem 1rem; border-top: 1px solid var(--line); }
.part:first-child { border-top: 0; }
.part h4 { display: flex; align-items: center; gap: .55rem; font-size: 1rem; font-weight: 600; }
.part h4 .mark { width: 1.15rem; height: 1.15rem; }
.part h4 span { overflow-wrap: anywhere; }
.part h4 small { margin-left: auto; font-weight: 400; font-size: .85rem; color: var(--soft); white-space: nowrap; }
.part:not(.ok) h4 small { color: var(--tone); font-weight: 600; }

dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.1rem, 1fr)); gap: .45rem .75rem; margin: .5rem 0 0 1.7rem; }
dt { font-size: .78rem; color: var(--soft); }
dd { font-size: .95rem; overflow-wrap: anywhere; }
dd small { color: var(--soft); white-space: nowrap; }
.wide { grid-column: 1 / -1; }
.bar { height: .4rem; margin-top: .35rem; border-radius: .2rem; background: var(--line); overflow: hidden; }
.bar svg { display: block; width: 100%; height: 100%; fill: var(--bar); }
.bar.high svg { fill: var(--degraded); }

footer { margin: 1.6rem .2rem 0; color: var(--soft); font-size: .85rem; }
footer a { color: inherit; margin-right: .9rem; text-underline-offset: .2em; }
footer p { margin-top: .5rem; }
@media (min-width: 40rem) {
  body { padding-top: 2rem; }
  .hero { padding: 1.6rem 1.5rem; gap: 1.3rem; }
  .hero .mark { width: 4rem; height: 4rem; }
  h1 { font-size: 3rem; }
}
`;
