"""A model of the delivery that is explored exhaustively to a bound, and against which histories are checked.

`code` is what the model takes from the code, `state` a state, `actions` what may happen in it, `explore` the search,
`bugs` planted bugs that the search must find, `traces` the histories of the fault simulator. docs/model.md explains it.
"""
