/** Mocha's own listing, and one line of counts after it: a skipped test is not a passed one. */
const { reporters, Runner } = require('mocha');

module.exports = class Counting extends reporters.Spec {
  /** @type {string[]} */
  skipped = [];

  /**
   * @param {Mocha.Runner} runner
   * @param {Mocha.MochaOptions} options
   */
  constructor(runner, options) {
    super(runner, options);
    runner.on(Runner.constants.EVENT_TEST_PENDING, (test) => this.skipped.push(test.fullTitle()));
  }

  /** @override */
  epilogue() {
    super.epilogue();
    const { passes, failures } = this.stats;
    for (const title of this.skipped) process.stdout.write(`skipped: ${title}\n`);
    process.stdout.write(`${passes} passed, ${failures} failed, ${this.skipped.length} skipped\n`);
  }
};
