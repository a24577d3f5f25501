export * from '../../src/lab/wire.ts';
