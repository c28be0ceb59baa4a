"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, sections, presets, settings, coherence, experiment, identity,
tokens, tokenise, prepare, plan, stages, batch, weighting, model, optimizer, fragments, engine,
joint_step, famo, aggregation, evaluate, checkpoint, weights, journal, training, loop, recorder,
summary, store, tracking, charts, access, cluster, launch, run, predict, records, served, export,
report, check, doctor, view, verb, cli, submit.
"""
