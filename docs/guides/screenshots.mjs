// Does in a browser what temporal-ui.md tells people to do, and takes its pictures.
// Every step waits for what a person would look for and fails without it, so
// the script also shows that the guide still works.
//
//   npm install --no-save puppeteer-core
//   tidemill dev examples/fraud            # in another terminal; prints the UI's address
//   node docs/guides/screenshots.mjs http://127.0.0.1:8233 examples/fraud docs/img
//
// It needs Chromium ($CHROMIUM, default /usr/bin/chromium), and makes the
// pictures small where pngquant is installed.
import { spawnSync } from 'node:child_process';
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const [ui, project, out] = process.argv.slice(2);
if (!out) {
  console.error('usage: node screenshots.mjs UI-URL PROJECT-DIR OUT-DIR');
  process.exit(2);
}
const workflows = `${ui}/namespaces/default/workflows`;
const pipeline = `${workflows}/${encodeURIComponent('pipeline/fraud/transactions')}`;
const size = { width: 1280, height: 800 };
const patience = { timeout: 20_000 };

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--force-color-profile=srgb'],
  defaultViewport: size,
});
const page = await browser.newPage();

const open = (url) => page.goto(url, { waitUntil: 'domcontentloaded', ...patience });

// see waits until the page, or a frame in it (details are in one), shows a text to the eye.
async function see(text) {
  const shows = (frame) => frame.evaluate((t) => document.body?.innerText.includes(t), text).catch(() => false); // frames come and go
  for (const end = Date.now() + patience.timeout; Date.now() < end; await new Promise((r) => setTimeout(r, 100))) {
    if ((await Promise.all(page.frames().map(shows))).includes(true)) return;
  }
  throw new Error(`not seen: ${text}`);
}

// find returns the first visible element of a selector whose text is the given one.
async function find(selector, text) {
  const handle = await page.waitForFunction((s, t) =>
    [...document.querySelectorAll(s)].find((e) => e.checkVisibility() && !e.disabled && (!t || e.innerText.trim() === t)),
  patience, selector, text ?? '');
  return handle.asElement();
}

const click = async (selector, text) => (await find(selector, text)).click();

async function type(selector, text) {
  const field = await find(selector);
  await field.click();
  await page.keyboard.type(text);
}

async function shot(name) {
  await page.evaluate(() => document.activeElement?.blur());
  await page.waitForNetworkIdle({ idleTime: 300, timeout: 3000 }).catch(() => {}); // a busy pipeline never is
  const file = join(out, name);
  await page.screenshot({ path: file });
  spawnSync('pngquant', ['--force', '--ext', '.png', '--skip-if-larger', '--quality', '60-95', file]);
  console.log(file);
}

// metadata opens the tab with the workflow's current details.
async function metadata() {
  await open(pipeline);
  await click('[data-testid=user-metadata-tab]');
  await page.waitForSelector('iframe', patience);
  await see('is ');
}

// update sends an update from the pipeline's page. The page belongs to one run;
// a busy pipeline may have gone on as a new one meanwhile, and is then opened again.
async function update(name, input, picture) {
  for (let attempts = 3; attempts > 0; attempts--) {
    await metadata(); // where the UI learns the names of the updates
    if (await sendUpdate(name, input, picture)) return;
  }
  throw new Error(`update ${name} did not get through`);
}

async function sendUpdate(name, input, picture) {
  await click('button', 'More Actions');
  await click('[data-testid=update-button]');
  await click('[data-testid=update-select-button]');
  await page.waitForFunction((n) => [...document.querySelectorAll('[role=option]')].some((e) => e.checkVisibility() && e.innerText.trim().startsWith(n)), patience, name);
  await page.evaluate((n) => [...document.querySelectorAll('[role=option]')].find((e) => e.checkVisibility() && e.innerText.trim().startsWith(n)).click(), name);
  if (input) await type('[role=textbox]', input);
  if (picture) await shot(picture);
  await click('[data-testid=confirm-modal-button]', 'Submit');
  const answer = await page.waitForFunction(() => {
    if (document.body.innerText.includes('workflow execution already completed')) return 'gone';
    return [...document.querySelectorAll('[data-testid=update-select-button]')].some((e) => e.checkVisibility()) ? null : 'sent';
  }, patience);
  return (await answer.jsonValue()) === 'sent';
}

// start fills in the Start Workflow form and waits for the outcome.
async function start(id, input, status, picture, formPicture) {
  await open(`${workflows}/start-workflow`);
  await type('#workflowId', id);
  await type('#taskQueue', 'tidemill-fraud');
  await type('#workflowType', 'RegisterModel');
  await type('[role=textbox]', input);
  await see('Task Queue is Active');
  if (formPicture) {
    await page.setViewport({ width: 1280, height: 960 });
    await shot(formPicture);
    await page.setViewport(size);
  }
  await page.evaluate(() => document.activeElement?.blur()); // the form moves when its editor is left
  await click('[data-testid=start-workflow-button]', 'Start Workflow');
  await page.waitForSelector(`a[href*="/workflows/${id}/"]`, patience); // the note that it has started
  await open(`${workflows}/${encodeURIComponent(id)}`);
  await see(status);
  await shot(picture);
}

try {
  await open(`${workflows}?query=${encodeURIComponent("TidemillTable = 'transactions'")}`);
  await see('pipeline/fraud/transactions');
  await shot('ui-workflows.png');

  await metadata();
  await see('landed version scored');
  await shot('ui-pipeline.png');

  await update('pause', '{"reason": "new model tonight"}', 'ui-pause.png');
  await metadata();
  await see('is paused');
  await see('new model tonight');
  await shot('ui-paused.png');
  await update('resume');
  await metadata();
  await see('is waiting');

  const now = Date.now();
  await start(`register-fraud-${now}`, '{"name": "fraud", "file": "models/fraud.onnx", "alias": "challenger"}', 'COMPLETED', 'ui-registered.png', 'ui-start.png');
  const misfit = join(project, 'models', 'misfit.onnx');
  copyFileSync(join(project, '..', 'host', 'models', 'host.onnx'), misfit);
  try {
    await start(`register-misfit-${now}`, '{"name": "fraud", "file": "models/misfit.onnx"}', 'FAILED', 'ui-refused.png');
  } finally {
    rmSync(misfit);
  }
} catch (e) {
  await page.screenshot({ path: join(out, 'failed.png') });
  throw e;
} finally {
  await browser.close();
}
